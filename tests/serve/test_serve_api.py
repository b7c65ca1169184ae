"""The API of `restore serve`: results, progress, refusals, and who is answered."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from support.networks import random_file, tiny
from support.pictures import piece
from support.serving import Here, all_forms, asked, deep_png, hole, order, png, served, until

from restore.serve.routes.jobs import stream
from restore.serve.settings import Address

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_file(tmp_path_factory.mktemp("model") / "tiny.safetensors", tiny())


@pytest.fixture(scope="module")
def worker(model) -> Here:
    return Here(model)


@pytest.fixture
def client(worker) -> Iterator[TestClient]:
    with served(worker) as client:
        yield client


def error_of(answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert list(told) == ["error"]
    assert "Traceback" not in told["error"]
    return told["error"]


# ------------------------------------------------------------------ results


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("sr", {"scale": 2}),
        ("deblur", {"kernel": "gaussian:1", "noise": 0.02}),
        ("denoise", {"noise": 0.1}),
        ("colorize", {"method": "ddrm"}),
        ("inpaint", {"samples": 2, "seed": 5}),
        ("inpaint", {"mask": "auto:scratches"}),
    ],
)
def test_the_answer_is_the_file_that_the_command_writes(
    client, command, model, tmp_path, task, options
):
    picture = deep_png(tmp_path / "in.png")
    mask = hole() if task == "inpaint" and "mask" not in options else None
    answer = asked(client, task, **order(picture, **{"mask": mask, **options}))
    assert answer.status_code == 200, answer.text

    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    if mask is not None:
        (tmp_path / "m.png").write_bytes(mask)
        words += ["--mask", tmp_path / "m.png"]
    out = tmp_path / "out.png"
    ran = command(task, tmp_path / "in.png", out, "--model", model, "--steps", 2, *words)
    assert ran.code == 0, ran.err
    assert answer.content == out.read_bytes()
    assert answer.headers["content-type"] == "image/png"

    job = client.get(answer.headers["location"]).json()
    assert job["state"] == "done"
    for file in job["files"]:
        written = out.with_name(file["name"].replace("restored", "out"))
        assert client.get(f"/{file['link']}").content == written.read_bytes()
    assert len(job["files"]) == (4 if "samples" in options else 1)


def test_the_format_is_that_of_the_content_or_of_the_option(client):
    file = io.BytesIO()
    piece((24, 16)).save(file, "TIFF")
    answer = asked(client, "denoise", **order(file.getvalue(), noise=0.1))
    assert answer.headers["content-type"] == "image/tiff"
    assert Image.open(io.BytesIO(answer.content)).size == (24, 16)
    (told,) = client.get(answer.headers["location"]).json()["files"]
    assert Image.open(io.BytesIO(client.get(f"/{told['view']}").content)).format == "JPEG"

    answer = asked(client, "denoise", **order(noise=0.1, format="jpeg", quality=80))
    assert answer.headers["content-type"] == "image/jpeg"


def test_a_job_tells_its_progress_as_events(client):
    job = asked(client, "sr", wait=False, **order(scale=2, steps=4))
    assert job.status_code == 202
    assert job.headers["location"] == f"/api/jobs/{job.json()['id']}"

    accepted = {"accept": "text/event-stream"}
    with client.stream("GET", job.headers["location"], headers=accepted) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    told = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert lines[0].startswith("event: ")
    assert lines[-2] == "event: done"
    assert told[-1]["state"] == "done"
    assert told[-1]["report"]["steps"] == 4
    assert "explain" in told[-1]["words"]
    steps = [one["step"] for one in told]
    assert steps == sorted(steps)


def test_a_running_job_has_a_preview_and_can_be_cancelled(client, worker):
    worker.gate.clear()
    place = asked(client, "sr", wait=False, **order(scale=2, steps=50)).headers["location"]
    until(lambda: client.get(place).json()["state"] == "running")
    assert client.get(f"{place}/preview").status_code == 404
    worker.gate.set()
    until(lambda: client.get(place).json()["step"] > 0)
    assert Image.open(io.BytesIO(client.get(f"{place}/preview").content)).format == "JPEG"

    worker.gate.clear()
    assert client.delete(place).status_code == 204
    until(lambda: client.get(place).json()["state"] == "cancelled")
    worker.gate.set()
    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == 404


def test_a_job_that_nobody_watches_any_more_is_cancelled(worker):
    with served(worker, vanish_seconds=0.05) as client:
        worker.gate.clear()
        place = asked(client, "sr", wait=False, **order(scale=2)).headers["location"]
        server = client.app.state.server

        async def vanish() -> None:
            events = stream(server, server.found(place.rpartition("/")[2]))
            await anext(events)
            await events.aclose()

        client.portal.call(vanish)
        until(lambda: client.get(place).json()["state"] == "cancelled")


def test_results_are_forgotten_after_their_time(worker):
    with served(worker, keep=0.3) as client:
        place = asked(client, "sr", **order(scale=2)).headers["location"]
        until(lambda: client.get(place).status_code == 404)
        assert "0.3 s" in error_of(client.get(place))


def test_the_oldest_results_go_when_all_are_too_large(worker):
    with served(worker, keep_bytes=10_000) as client:
        places = [asked(client, "sr", **order(scale=4, seed=n)).headers["location"] for n in (1, 2)]
        assert [client.get(place).status_code for place in places] == [404, 200]


def test_a_full_queue_refuses_and_says_when_to_come_again(worker):
    with served(worker, queue=2) as client:
        worker.gate.clear()
        jobs = [asked(client, "sr", wait=False, **order(scale=2)) for _ in range(3)]
        assert [job.status_code for job in jobs] == [202] * 3
        assert jobs[2].json()["before"] == 1

        refused = asked(client, "sr", wait=False, **order(scale=2))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "try again" in error_of(refused)
        assert client.get("/api/health").json()["waiting"] == 2

        client.delete(jobs[1].headers["location"])
        worker.gate.set()
        until(lambda: client.get(jobs[2].headers["location"]).json()["state"] == "done")
        assert client.get(jobs[0].headers["location"]).json()["state"] == "done"


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("task", "parts", "status", "text"),
    [
        ("sr", order(b"no picture"), 415, "picture"),
        ("sr", order(b""), 415, "the file is empty"),
        ("sr", order(png()[:-30]), 415, "picture"),
        ("sr", order(scale=0.5), 400, "`scale`=0.5"),
        ("sr", order(scale="much"), 400, "`scale`=much: must be a finite number"),
        ("sr", order(scale=True), 400, "`scale`=true"),
        ("sr", order(steps=2.5), 400, "`steps`=2.5: must be a whole number"),
        ("sr", order(colour=1), 400, "colour is no option of sr"),
        ("sr", order(seed=-1), 400, "`seed`=-1"),
        ("sr", order(samples=10**9), 400, "`samples`=1000000000"),
        ("sr", order(method="spandrel:/etc/passwd"), 400, "cannot be named here"),
        ("sr", order(method="<script>"), 400, "<script>"),
        ("sr", order(start="/etc/passwd"), 400, "`start`=/etc/passwd: send it as a file"),
        ("sr", order(scale=10**400), 400, "`scale`=1000"),
        ("sr", order(steps=10**30), 400, "`steps`=1000"),
        ("sr", order(seed=10**30), 400, "`seed`=1000"),
        ("sr", order(width=10**30), 400, "`width`=1e+30"),
        ("sr", order(options="x" * 70_000), 400, "the form cannot be read"),
        ("sr", order(model="/etc/passwd"), 400, "model is no option"),
        ("develop", order(), 404, "camera raws, clips and measurements are for the command"),
        ("sr", order(mask=png()), 400, "takes no file `mask`"),
        ("sr", order(png((48, 32)), scale=16, samples=900), 400, "at most"),
        ("deblur", order(), 400, "`kernel` is missing"),
        ("deblur", order(kernel="file:/etc/passwd"), 400, "cannot be named here"),
        ("deblur", order(kernel="nothing:1"), 400, "`kernel`"),
        ("solve", order(operator="mask:file:/etc/passwd"), 400, "cannot be named here"),
        ("solve", order(operator="gray+blur:file:/dev/zero"), 400, "cannot be named here"),
        ("solve", order(), 400, "`operator` is missing"),
        ("inpaint", order(), 400, "the part `mask` is missing; send it as a file, or the option"),
        ("inpaint", order(mask="/etc/passwd"), 400, "send it as a file, or auto:scratches"),
        (
            "inpaint",
            order(mask="auto:scratches", threshold=0.2),
            400,
            "is for a mask that is given",
        ),
        ("inpaint", order(mask=hole((8, 8))), 400, "they must be of the same size"),
        ("inpaint", order(mask=b"\x89PNG\r\n\x1a\n"), 415, "mask"),
        ("denoise", order(noise="loud"), 400, "`noise`=loud"),
        ("denoise", order(png(mode="RGBA"), noise=0.1, format="jpeg"), 400, "transparency"),
    ],
)
def test_bad_requests_are_told_in_a_sentence(client, task, parts, status, text):
    answer = asked(client, task, **parts)
    assert answer.status_code == status, answer.text
    assert text in error_of(answer)
    assert "/etc/<b>" not in answer.text


def test_an_unknown_method_is_told_those_of_the_server(client):
    said = error_of(asked(client, "sr", **order(method="sr2")))
    assert said.startswith("`method`=sr2: unknown; use auto, ddrm, ")
    assert "spandrel" not in said


def other_files() -> dict[str, bytes]:
    """Files that are no single sound picture, by what the answer says of them."""
    pages = io.BytesIO()
    piece((24, 16)).save(pages, "TIFF", save_all=True, append_images=[piece((24, 16))])
    archive = io.BytesIO()
    np.savez(archive, y=np.zeros(3))
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    return {
        "pixels": b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + bomb + png()[33:],
        "pages": pages.getvalue(),
        "an archive": archive.getvalue(),
        "raw": b"II*\0\x10\0\0\0CR\2\0" + bytes(300),
        "clip": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(300),
        "PDF": b"%PDF-1.7\n" + bytes(300),
        "picture": pickle.dumps({"a": 1}),
    }


@pytest.mark.parametrize("place", ["/api/view", "/api/restore/sr"])
def test_other_files_are_told_in_a_sentence(client, place):
    for text, data in other_files().items():
        answer = client.post(place, **order(data))
        assert answer.status_code == 415, (text, answer.text)
        assert text in error_of(answer)


@pytest.mark.parametrize("options", ["{", "[]", "3", '{"scale": 2, "scale": 3}', '{"scale": NaN}'])
def test_options_that_are_no_object_are_refused(client, options):
    answer = asked(client, "sr", files={"picture": png()}, data={"options": options})
    assert answer.status_code == 400
    error_of(answer)


def test_requests_that_are_no_form_are_refused(client):
    assert asked(client, "sr", content=b"x").status_code == 415
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert asked(client, "sr", content=b"--x\r\nnothing", headers=kind).status_code == 400
    files = [("picture", png()), ("picture", png())]
    assert "twice" in error_of(asked(client, "sr", files=files))
    assert "as a file" in error_of(
        asked(client, "sr", data={"picture": "/etc/passwd"}, files={"a": b"1"})
    )
    assert asked(client, "nothing", **order()).status_code == 404
    assert client.get("/api/restore/sr").status_code == 405
    assert client.get("/../pyproject.toml").status_code == 404
    assert client.get("/page.js/../../app.py").status_code == 404


def test_too_large_a_request_or_picture_is_refused(worker):
    with served(worker, bytes=2000, pixels=300) as client:
        huge = {"content-length": "10000000000", "content-type": "multipart/form-data; boundary=x"}
        assert asked(client, "sr", content=iter([b"--x"]), headers=huge).status_code == 413
        many = (b"--x\r\n" + b"y" * 500 for _ in range(9))
        kind = {"content-type": "multipart/form-data; boundary=x"}
        assert asked(client, "sr", content=many, headers=kind).status_code in (400, 413)
        answer = asked(client, "sr", **order(png((24, 16), "1")))
        assert answer.status_code == 415
        assert "pixels" in error_of(answer)


def test_a_picture_is_shown_upright_with_its_facts(client, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "<script>alert(1)</script>"
    file = io.BytesIO()
    piece((24, 16)).save(file, "JPEG", exif=exif)
    answer = client.post("/api/view", files={"picture": file.getvalue()})
    assert Image.open(io.BytesIO(answer.content)).size == (16, 24)
    assert b"script" not in answer.content
    facts = json.loads(answer.headers["picture-facts"])
    assert (facts["width"], facts["height"], facts["format"]) == (16, 24, "JPEG")
    deep = client.post("/api/view", files={"picture": deep_png(tmp_path / "a.png")})
    assert json.loads(deep.headers["picture-facts"])["bits"] == 16
    assert Image.open(io.BytesIO(deep.content)).mode == "RGBA"


# ------------------------------------------------------------------ who is answered


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:7860"}, 200),
        ({"host": "localhost:7860"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "attacker.example:7860"}, 421),
        ({"host": "127.0.0.1.attacker.example"}, 421),
        ({"host": "192.168.1.7:7860"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://127.0.0.1:7860"}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "https://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}, 403),
    ],
)
def test_pages_of_other_sites_are_refused(client, headers, status):
    answer = client.get("/api/tasks", headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_a_link_from_another_site_opens_the_page_alone(client):
    linked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=linked).status_code == 200
    assert client.get("/api/health", headers=linked).status_code == 403


def test_a_token_is_asked_for(worker):
    address = Address("0.0.0.0", token=TOKEN, names=("pictures.example",))
    with served(worker, address) as client:
        assert client.get("/").status_code == 200
        assert client.get("/api/health").status_code == 200
        for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
            answer = client.get("/api/tasks", headers=given)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/openapi.json").status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/tasks", headers=right).status_code == 200
        for host, status in (("pictures.example", 200), ("10.0.0.3:7860", 200), ("x.example", 421)):
            assert client.get("/api/tasks", headers={**right, "host": host}).status_code == status


def test_the_page_loads_nothing_from_elsewhere(client):
    for name in ("/", "/docs", "/page.js", "/page.css", "/api.js"):
        answer = client.get(name)
        assert answer.status_code == 200
        assert "https://" not in answer.text
        assert "http://" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")


def test_help_is_for_the_page_and_not_for_the_command():
    for form in all_forms().values():
        for text in (form.about, *(field.help + field.implied for field in form.fields.values())):
            assert not re.search(r"\bIN\b|\bOUT\b|\.npz|spandrel|[Cc]lip|file:|--|`", text), text
    fields = all_forms()["sr"].fields
    assert fields["scale"].implied == "4"
    assert fields["kernel"].closed
    assert not fields["noise"].closed
    assert fields["format"].implied == "as the picture"
    assert "Default" not in fields["format"].help


def test_tasks_have_the_options_of_the_command(client):
    tasks = {task["name"]: task for task in client.get("/api/tasks").json()["tasks"]}
    scale = next(one for one in tasks["sr"]["options"] if one["name"] == "scale")
    assert (scale["flag"], scale["type"], scale["own"]) == ("--scale", "number", True)
    label = next(one for one in tasks["sr"]["options"] if one["name"] == "label")
    assert (label["flag"], label["own"]) == ("--class", False)
    assert [one["name"] for one in tasks["inpaint"]["uploads"]] == ["mask", "start"]
    described = client.get("/openapi.json").json()
    body = described["paths"]["/api/restore/sr"]["post"]["requestBody"]
    schema = body["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["options"]["properties"]["scale"]["type"] == "number"


@pytest.mark.parametrize("words", [("--queue", 0), ("--megabytes", "inf"), ("--keep", "nan")])
def test_limits_of_the_command_are_finite(command, words):
    ran = command("serve", *words)
    assert ran.code == 1
    assert f"{words[0]} {words[1]}: must be above 0, and finite" in ran.err
