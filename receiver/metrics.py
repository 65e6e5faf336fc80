"""`/metrics` on an address of its own, which the public port never answers."""

from importlib import metadata

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from receiver.errors import SettingsError
from workers.contract.setting.kinds import Address


def listen(address: Address, registry: CollectorRegistry) -> int:
    """Serve what is registered from a thread that ends with the process; the port.

    Raises:
        SettingsError: the address can't be listened on.
    """
    build = Gauge("batch_receiver_build_info", "Always 1.", ["version"], registry=registry)
    build.labels(metadata.version("batch-receiver")).set(1)
    try:
        server, _ = start_http_server(address.port, address.host, registry)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no address"
        raise SettingsError(
            f"METRICS_ADDRESS can't be listened on, {reason}: give another host:port."
        ) from None
    return int(server.server_address[1])
