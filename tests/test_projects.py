"""Two Gemini projects behind one receiver and one pool of workers, as processes: nothing of one gets to the other."""

import json
from itertools import product

import redis

from tests.support.deployment import contents, result_line
from tests.support.gemini import Gemini
from tests.support.projects import Projects
from tests.support.waiting import wait_until
from workers.contract import Announcement, Queues, Trigger

NAMES = ("search", "ads")


def queues_of(client: redis.Redis, name: str) -> Queues:
    return Queues(client, f"batch-receiver-project-{name}")


def texts(projects: Projects, name: str, batch: str) -> list[str]:
    folder = projects.bucket(name) / batch / "outputs"
    return [json.loads(path.read_bytes())["text"] for path in sorted(folder.iterdir())]


def test_a_batch_id_that_exists_in_two_projects_is_two_batches_each_in_its_own_storage(
    projects: Projects,
) -> None:
    serve, work = projects.serve(), projects.work("--workers", "2")
    for name, gemini in projects.geminis.items():
        gemini.put_batch(result_line("a", f"Of {name}."), batch_id="same")
        gemini.put_batch(result_line("b", f"Only {name}'s."), batch_id=f"only-{name}")

    for gemini in projects.geminis.values():
        gemini.wait_for_deliveries(gemini.announce("same"))
    for name, gemini in projects.geminis.items():
        gemini.wait_for_deliveries(gemini.announce(f"only-{name}"))

    for name in NAMES:
        assert projects.wait_for_commit(name, "same")["trigger"] == "webhook"
        projects.wait_for_commit(name, f"only-{name}")
        assert texts(projects, name, "same") == [f"Of {name}."]
        found = {path.parent.name for path in projects.bucket(name).glob("*/batch.json")}
        assert found == {"same", f"only-{name}"}
    for name, gemini in projects.geminis.items():
        work.wait_for_output(rf"event=committed (?=.*batch=same\b)(?=.*project={name}\b)")
        assert {request["status"] for request in gemini.requests("/batches/")} == {200}, "a foreign key"
        other = next(each for each in NAMES if each != name)
        assert not gemini.requests(f"only-{other}")
    assert work.stop() == 0
    assert serve.stop() == 0


def test_every_combination_of_signature_path_and_key_leaves_the_other_project_alone(
    projects: Projects, redis_client: redis.Redis
) -> None:
    """Each Gemini announces the batches of both at both paths; only its own at its own path is heard."""
    serve = projects.serve()
    origin = serve.wait_for_output(r"listening on (http://127\.0\.0\.1:\d+)")[1]
    for name, gemini in projects.geminis.items():
        gemini.put_batch(result_line("a", f"Of {name}."), batch_id=f"of-{name}")
        for other in NAMES:
            if other != name:
                gemini.create_webhook(f"{origin}/webhooks/{other}")
    for (name, gemini), other in product(projects.geminis.items(), NAMES):
        told = gemini.announce(f"of-{other}")

        def answers(gemini: Gemini = gemini, told: list[str] = told) -> dict[str, set[int]]:
            found = [each for each in gemini.deliveries() if each["id"] in told]
            if not all(each["attempts"] for each in found):
                return {}
            return {
                each["url"].rpartition("/")[2]: {attempt["status"] for attempt in each["attempts"]}
                for each in found
            }

        heard = wait_until(answers, what="an answer to each delivery")
        assert heard == {path: {200} if path == name else {401} for path in NAMES}

    work = projects.work("--workers", "2")
    for name in NAMES:
        projects.wait_for_commit(name, f"of-{name}")
        other = next(each for each in NAMES if each != name)
        # Announced by its own Gemini, which does not know it: asked for with its own key, and not readable.
        job = queues_of(redis_client, name).batch_job_id(f"of-{other}")
        wait_until(
            lambda job=job: redis_client.hget(f"rq:job:{job}", "status") == b"scheduled",  # type: ignore[misc]
            what="a job that is tried again",
        )
        assert not (projects.bucket(name) / f"of-{other}").exists()
        assert {each["status"] for each in projects.geminis[name].requests(f"/batches/of-{other}")} == {404}
        assert {each["status"] for each in projects.geminis[name].requests(f"/batches/of-{name}")} == {200}
    assert work.stop() == 0


def test_a_key_that_was_put_in_the_other_projects_place_reads_nothing(
    projects: Projects, redis_client: redis.Redis
) -> None:
    for name, gemini in projects.geminis.items():
        gemini.put_batch(result_line("a", f"Of {name}."), batch_id="same")
    projects.tables["ads"]["api_key_file"] = "search.key"
    projects.write()
    for name in NAMES:
        queues_of(redis_client, name).announce([Announcement("same", Trigger.WEBHOOK)])

    work = projects.work("--wait", "--workers", "2")

    projects.wait_for_commit("search", "same")
    work.wait_for_output(r"event=retry (?=.*batch=same\b)(?=.*project=ads\b).*refused the API key")
    assert not (projects.bucket("ads") / "same").exists()
    assert {each["status"] for each in projects.geminis["ads"].requests("/batches/same")} <= {400, 401, 403}


def test_a_record_that_names_another_projects_batch_is_not_run(
    projects: Projects, redis_client: redis.Redis
) -> None:
    """Who can write to Redis can't have one project's batch fetched with the other one's key."""
    projects.geminis["search"].put_batch(result_line("a"), batch_id="wanted")
    ads, search = queues_of(redis_client, "ads"), queues_of(redis_client, "search")
    ads.announce([Announcement("other", Trigger.WEBHOOK), Announcement("more", Trigger.WEBHOOK)])
    redis_client.rename(
        f"rq:job:{ads.batch_job_id('other')}", "rq:job:batch-receiver-project-ads-batch-wanted"
    )
    redis_client.lrem(f"rq:queue:{ads.batches}", 0, ads.batch_job_id("other"))
    redis_client.lrem(f"rq:queue:{ads.batches}", 0, ads.batch_job_id("more"))
    # The record in search's queue, of ads, and one whose argument is not what its id says.
    redis_client.rpush(f"rq:queue:{search.batches}", ads.batch_job_id("wanted"), ads.batch_job_id("more"))

    ended = projects.run("work", "--burst")

    assert ended.returncode == 0, ended.output
    assert not (projects.bucket("search") / "wanted").exists()
    assert not projects.geminis["search"].requests("/batches/")


def test_the_first_project_may_be_called_default_and_goes_on_where_it_was(
    projects: Projects, redis_client: redis.Redis
) -> None:
    """From one project to several: what waits is done, under the names and in the folder that it always had."""
    gemini = projects.geminis["search"]
    batch = gemini.put_batch(result_line("a"))
    Queues(redis_client).announce([Announcement(batch, Trigger.WEBHOOK)])
    projects.tables = {"default": projects.tables["search"], "ads": projects.tables["ads"]}
    projects.write()

    ended = projects.run("work", "--burst")

    assert ended.returncode == 0, ended.output
    assert json.loads((projects.bucket("search") / batch / "batch.json").read_bytes())["batch"] == batch
    assert not redis_client.keys("*project-default*")


def test_two_projects_write_the_same_for_the_same(projects: Projects) -> None:
    for gemini in projects.geminis.values():
        gemini.put_batch([result_line(f"k{n}") for n in range(50)], batch_id="same")
    queue = projects.run("replay", "search/same"), projects.run("replay", "--project", "ads", "batches/same")
    assert [process.returncode for process in queue] == [0, 0]
    projects.run("work", "--burst")

    one, other = (contents(projects.bucket(name) / "same") for name in NAMES)
    assert len(one) > 50
    assert {name for name in one if one[name] != other[name]} <= {"batch.json"}  # Its times are Gemini's.
    for name in NAMES:
        assert projects.run("verify", f"{name}/same").returncode == 0


def test_status_and_reconcile_are_about_all_projects_or_the_one_that_is_named(
    projects: Projects, redis_client: redis.Redis
) -> None:
    for name, gemini in projects.geminis.items():
        gemini.put_batch(result_line("a"), batch_id="same")
        gemini.put_batch(result_line("a"), batch_id=f"only-{name}")
    projects.geminis["ads"].fault("status", "/v1beta/batches?", value=500, times=1)

    found = projects.run("reconcile", "--json", "--project", "search")
    assert json.loads(found.output)["enqueued"] == 2
    assert not Queues(redis_client, "batch-receiver-project-ads").jobs_of("same")
    found = projects.run("reconcile", "--json")
    reports = json.loads(found.output.splitlines()[0])
    assert found.returncode == 1
    assert (reports["search"]["already_waiting"], len(reports["ads"]["troubles"])) == (2, 1)
    assert "ads:\n2 batches listed" in projects.run("reconcile").output

    waiting = json.loads(projects.run("status", "--json").output)
    assert waiting["totals"] == {"waiting": 4, "running": 0, "failed": 0}
    assert {job["project"] for job in waiting["waiting"]} == set(NAMES)
    assert waiting["projects"] == {"search": None, "ads": None}
    assert projects.run("work", "--burst").returncode == 0
    done = json.loads(projects.run("status", "--json").output)
    assert sorted((each["project"], each["batch"]) for each in done["committed"]) == [
        ("ads", "only-ads"),
        ("ads", "same"),
        ("search", "only-search"),
        ("search", "same"),
    ]
    assert json.loads(projects.run("status", "--json", "--project", "ads").output)["committed_total"] == 2
    assert "ads/only-ads" in projects.run("status").output

    assert projects.run("status", "only-ads").output.startswith("only-ads: committed\n")
    assert projects.run("status", "ads/same").output.startswith("same: committed\n")
    both = projects.run("status", "same")
    assert both.returncode == 2
    assert "same is a batch of several projects: say --project with one of ads, search." in both.output
    assert "Nothing is known of none" in projects.run("status", "none").output


def test_one_project_that_can_never_work_keeps_none_of_the_others_waiting_and_joins_when_it_can(
    projects: Projects, redis_client: redis.Redis
) -> None:
    for gemini in projects.geminis.values():
        gemini.put_batch(result_line("a"), batch_id="first")
    (projects.folder / "ads.key").write_text("revoked")
    for name in NAMES:
        queues_of(redis_client, name).announce([Announcement("first", Trigger.WEBHOOK)])

    work = projects.work("--workers", "2")

    work.wait_for_output("event=project_left_out project=ads reason=.*refused the API key")
    projects.wait_for_commit("search", "first")
    wait_until(
        lambda: (
            "refused the API key"
            in (json.loads(projects.run("status", "--json").output)["projects"]["ads"] or "")
        ),
        what="a status that says why",
    )
    assert queues_of(redis_client, "ads").queue("batch-receiver-project-ads-batches").count == 1, (
        "it was tried"
    )
    (projects.folder / "ads.key").write_text(projects.geminis["ads"].api_key)
    projects.wait_for_commit("ads", "first")
    assert json.loads(projects.run("status", "--json").output)["projects"] == {"search": None, "ads": None}
    assert work.stop() == 0


def test_where_no_project_can_work_it_ends_with_one_sentence(projects: Projects) -> None:
    for name in NAMES:
        (projects.folder / f"{name}.key").write_text("revoked")

    ended = projects.run("work", "--burst")

    assert ended.returncode == 2
    assert "Error: No project can be worked for. search: " in ended.output
    assert "Traceback" not in ended.output


def test_a_project_that_is_added_or_taken_away_counts_without_a_restart(
    projects: Projects, redis_client: redis.Redis
) -> None:
    for gemini in projects.geminis.values():
        for batch in ("first", "second"):
            gemini.put_batch(result_line("a"), batch_id=batch)
    ads = projects.tables.pop("ads")
    projects.write()
    work = projects.work("--workers", "2")
    for name in NAMES:
        queues_of(redis_client, name).announce([Announcement("first", Trigger.WEBHOOK)])
    projects.wait_for_commit("search", "first")

    projects.tables["ads"] = ads
    projects.write()
    projects.wait_for_commit("ads", "first")

    del projects.tables["search"]
    projects.write()
    work.wait_for_output("event=projects_read projects=ads\n")
    search = queues_of(redis_client, "search")
    wait_until(
        lambda: not redis_client.smembers(f"rq:workers:{search.batches}"), what="no worker on search's queue"
    )
    for name in NAMES:
        queues_of(redis_client, name).announce([Announcement("second", Trigger.WEBHOOK)])
    projects.wait_for_commit("ads", "second")
    assert search.queue(search.batches).count == 1

    projects.tables["ads"]["nonsense"] = "1"
    projects.write()
    work.wait_for_output("event=projects_broken reason=.*'nonsense' of project ads is no key")
    assert work.stop() == 0
