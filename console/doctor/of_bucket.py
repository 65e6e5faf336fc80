"""The bucket: everything that processing needs, tried once in a process of its own."""

from console.doctor.check import Finding, failed, ok, warning
from console.doctor.fact import CannotTell
from console.doctor.place import Place
from workers.bucket.probe import probe_apart
from workers.contract.settings import STORAGE_URL
from workers.errors import WorkerError


def of_bucket(place: Place) -> Finding:
    if not place.works:
        raise CannotTell("No STORAGE_URL here: run it where `batch-receiver work` runs, too.")
    url = place.setting(STORAGE_URL)
    try:
        remarks = probe_apart(url, place.environment)
    except WorkerError as error:
        return failed(str(error))
    if remarks:
        return warning(f"It can be used. {' '.join(remarks)}")
    return ok(f"{url}: objects are written, read, listed, created once, copied and deleted.")
