/* A store that is not itself the limit: it answers every PUT with an ETag after so many milliseconds, and keeps nothing.

   `stub MILLISECONDS` prints its port. One thread, so that what it costs this machine's cores is little and known. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 4096, HEAD = 16384, WAITING = 65536 };

struct connection {
    char head[HEAD];
    int length;      /* of the head so far */
    long body;       /* bytes still to come; -1 while the head is read */
    unsigned number; /* tells a connection from an earlier one with its descriptor */
};
struct answer {
    long due; /* microseconds */
    int to;
    unsigned number;
};

static struct connection connections[CONNECTIONS];
static struct answer waiting[WAITING];
static unsigned first, last;
static long delay;

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void send_all(int to, const char *text) {
    if (write(to, text, strlen(text)) < 0) { /* It is gone; its reader will see. */
    }
}

static void done(int from) {
    connections[from].body = -1;
    connections[from].length = 0;
    waiting[last++ % WAITING] = (struct answer){now() + delay, from, connections[from].number};
}

/* Takes what came; what follows a request waits in the socket until it is answered, as no client here sends ahead. */
static void take(int from, const char *data, long size) {
    struct connection *c = &connections[from];
    while (size > 0) {
        if (c->body > 0) {
            long taken = size < c->body ? size : c->body;
            c->body -= taken, data += taken, size -= taken;
            if (!c->body) done(from);
            continue;
        }
        if (c->length == HEAD - 1) exit(3);
        c->head[c->length++] = *data++, size--;
        c->head[c->length] = 0;
        if (c->length < 4 || strcmp(c->head + c->length - 4, "\r\n\r\n")) continue;
        char *found = strcasestr(c->head, "\r\ncontent-length:");
        c->body = found ? atol(found + 17) : 0;
        if (strcasestr(c->head, "\r\nexpect:")) send_all(from, "HTTP/1.1 100 Continue\r\n\r\n");
        if (!c->body) done(from);
    }
}

int main(int count, char **words) {
    delay = count > 1 ? (long)(atof(words[1]) * 1000) : 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port)), fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    static char data[1 << 18];
    for (;;) {
        long left = first == last ? -1 : waiting[first % WAITING].due - now();
        int ready = epoll_wait(poll, events, 256, first == last ? -1 : left > 0 ? (int)((left + 999) / 1000) : 0);
        for (int n = 0; n < ready; n++) {
            int from = events[n].data.fd;
            if (from == listener) {
                int made = accept(listener, NULL, NULL), on = 1;
                if (made < 0 || made >= CONNECTIONS) return 2;
                setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                connections[made].length = 0, connections[made].body = -1, connections[made].number++;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = made};
                epoll_ctl(poll, EPOLL_CTL_ADD, made, &event);
                continue;
            }
            long got = read(from, data, sizeof data);
            if (got > 0) take(from, data, got);
            else if (!got || errno != EAGAIN) connections[from].number++, close(from);
        }
        for (long time = now(); first != last && waiting[first % WAITING].due <= time; first++) {
            struct answer *next = &waiting[first % WAITING];
            if (connections[next->to].number == next->number)
                send_all(next->to, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n");
        }
    }
}
