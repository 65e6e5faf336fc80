"""Alerts fire where their fault is, are silent in a calm hour, and each says what to do."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.support.processes import ROOT
from tests.support.promtool import promtool
from workers.contract.history import BatchState, History, metrics, ref_of

MONITORING = ROOT / "deploy/monitoring"
RULES = (MONITORING / "alerts.yaml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
CALM = {
    "batch_receiver_nearest_expiry_seconds": "Inf",
    'batch_receiver_queue_oldest_seconds{queue="batches"}': "3",
    "batch_receiver_reconcile_last_success_timestamp_seconds": None,
    'batch_receiver_webhook_enabled{project="default"}': "1",
    "batch_receiver_reconcile_found_total": "4",
    'batch_receiver_deliveries_total{outcome="refused",project="default"}': "2",
    'batch_receiver_deliveries_total{outcome="accepted",project="default"}': "+",
    "batch_receiver_failed_batches": "0",
    'batch_receiver_finish_reasons_total{reason="STOP"}': "+",
    'batch_receiver_finish_reasons_total{reason="MAX_TOKENS"}': "1",
    "batch_receiver_redis_persisting": "1",
    "batch_receiver_unfinished_oldest_seconds": "7200",
    "batch_receiver_scrape_seconds": "0.01",
}
"""Samples of an hour in which all is well: a number stays, `+` grows, None is the present."""

FAULTS: dict[str, dict[str, str | None]] = {
    "BatchReceiverResultsNearExpiry": {"batch_receiver_nearest_expiry_seconds": "3600"},
    "BatchReceiverQueueStuck": {'batch_receiver_queue_oldest_seconds{queue="batches"}': "900"},
    "BatchReceiverNoReconcile": {"batch_receiver_reconcile_last_success_timestamp_seconds": "0"},
    "BatchReceiverWebhookDisabled": {'batch_receiver_webhook_enabled{project="default"}': "0"},
    "BatchReceiverDeliveriesLost": {"batch_receiver_reconcile_found_total": "+"},
    "BatchReceiverSignaturesRefused": {
        'batch_receiver_deliveries_total{outcome="refused",project="default"}': "+",
        'batch_receiver_deliveries_total{outcome="accepted",project="default"}': "5",
    },
    "BatchReceiverBatchFailed": {"batch_receiver_failed_batches": "1"},
    "BatchReceiverAnswersCutShort": {'batch_receiver_finish_reasons_total{reason="MAX_TOKENS"}': "+"},
    "BatchReceiverRedisNotPersisting": {"batch_receiver_redis_persisting": "0"},
    "BatchReceiverBatchUnfinished": {"batch_receiver_unfinished_oldest_seconds": "200000"},
    "BatchReceiverNotMeasured": {"batch_receiver_scrape_seconds": "_"},
}
_MINUTES = 180


def _values(said: str | None) -> str:
    if said is None:
        return f"0+60x{_MINUTES}"
    if said == "+":
        return f"0+10x{_MINUTES}"
    if said == "Inf":
        return " ".join([said] * _MINUTES)
    return f"{said}x{_MINUTES}"


def assert_fires(folder: Path, samples: dict[str, str | None], alerts: set[str]) -> None:
    """Have promtool check that after three hours of these samples these alerts fire, and no others."""
    shutil.copy(MONITORING / "alerts.yaml", folder)
    case: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": _values(said)} for name, said in samples.items()],
        # That it fires at all is what a count of the series says; its texts are the templates' own business.
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{_MINUTES - 1}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if alert in alerts else [],
            }
            for alert in ALERTS
        ],
    }
    told = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": [case]}
    (folder / "case.yaml").write_text(json.dumps(told))
    promtool(folder, "test", "rules", "case.yaml")


def test_the_rules_are_rules(tmp_path: Path) -> None:
    assert len(ALERTS) == len(set(ALERTS)) == len(FAULTS)
    promtool(tmp_path, "check", "rules", str(MONITORING / "alerts.yaml"))


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_at_its_fault_and_no_other_does(alert: str, tmp_path: Path) -> None:
    assert_fires(tmp_path, {**CALM, **FAULTS[alert]}, {alert})


def test_all_alerts_are_silent_while_all_is_well(tmp_path: Path) -> None:
    assert_fires(tmp_path, dict(CALM), set())


def test_every_alert_has_its_section_in_the_runbooks() -> None:
    titles = re.findall(r"^## (.+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in titles}

    named = re.findall(r"runbook_url: docs/runbooks.md#(\S+)", RULES)
    assert len(named) == len(ALERTS)
    assert set(named) == anchors


def test_rules_and_dashboard_name_only_metrics_that_there_are(redis_client: Redis) -> None:
    history = History(redis_client, "t")
    history.note(ref_of("abc"), BatchState.GIVEN_UP, at=1.0)
    shown = metrics.render(redis_client, ["t"], "1").decode()
    known = set(re.findall(r"^# TYPE (\w+) ", shown, re.MULTILINE))
    known |= {f"{name}{end}" for name in known for end in ("_total", "_bucket", "_sum", "_count")}
    known |= {"batch_receiver_deliveries_total", "batch_receiver_delivery_seconds_bucket"}
    dashboard = (MONITORING / "dashboard.json").read_text()

    assert json.loads(dashboard)["title"]
    named = set(re.findall(r"batch_receiver_\w+", RULES + dashboard))
    assert named - known == set()
    assert len(named) > 15
