/* The floor: create, write and close each document of a pack, as several processes, with nothing else to do.
 *
 * A pack is a name on one line and its document on the next. Prints the seconds that the writing took. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void write_share(const char *pack, size_t size, int folder, int share, int shares) {
    const char *at = pack, *end = pack + size;
    char name[256];
    for (long place = 0; at < end; place++) {
        const char *name_end = memchr(at, '\n', (size_t)(end - at));
        if (!name_end || (size_t)(name_end - at) >= sizeof name) _exit(1);
        const char *document = name_end + 1;
        const char *document_end = memchr(document, '\n', (size_t)(end - document));
        if (!document_end) _exit(1);
        if (place % shares == share) {
            memcpy(name, at, (size_t)(name_end - at));
            name[name_end - at] = '\0';
            size_t length = (size_t)(document_end - document);
            int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            if (file < 0 || write(file, document, length) != (ssize_t)length || close(file)) _exit(1);
        }
        at = document_end + 1;
    }
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    int shares = atoi(arguments[3]);
    int file = open(arguments[1], O_RDONLY), folder = open(arguments[2], O_RDONLY | O_DIRECTORY);
    struct stat about;
    if (shares < 1 || file < 0 || folder < 0 || fstat(file, &about)) return 1;
    size_t size = (size_t)about.st_size;
    const char *pack = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (pack == MAP_FAILED) return 1;
    double began = now();
    for (int share = 0; share < shares; share++) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            write_share(pack, size, folder, share, shares);
            _exit(0);
        }
    }
    int failed = 0;
    for (int status; wait(&status) > 0;) failed |= status;
    printf("%.6f\n", now() - began);
    return failed ? 1 : 0;
}
