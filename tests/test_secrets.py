"""A secret goes through everything; afterwards it is nowhere but where it belongs."""

import os
import sys
from pathlib import Path

import psutil
import pytest
from lab import Lab, tiny_config
from server import API, client_at, free_port, is_up, wait_for

from app.access import tokens
from app.access.roles import Role
from app.backup import make_backup
from app.settings import ROOT
from trainer.store.database import writing

CANARY = "canary-7b1f0a9e5c3d2468-secret"
PAGES = "/runs /runs/1 /runs/1/log /runs/1/environment /queue /settings /settings/tokens".split()
ANSWERS = (
    "runs/1 runs/1/log runs/1/events storage workers queue tokens audit me openapi.json".split()
)


@pytest.mark.timeout(600)
def test_no_secret_is_in_a_log_a_page_an_export_or_the_list_of_processes(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path / "lab", access="token", lease_seconds=2.0)
    lab.forget_worker()
    with writing(lab.engine) as connection:
        given = tokens.make(connection, "given", Role.OWNER)
    port = free_port()
    environment = {**os.environ, **lab.settings.as_environment(), "PYTHONPATH": str(ROOT)}
    environment |= {"TRICKLAB_TOKEN": CANARY, "TRICKLAB_PORT": str(port)}
    log = tmp_path / "server.log"
    with log.open("w") as file:
        server = psutil.Popen(
            [sys.executable, "-m", "app", "serve", "--device", "cpu"],
            env=environment,
            cwd=ROOT,
            stdout=file,
            stderr=file,
        )
    seen: list[str] = []
    try:
        with client_at(port) as client:
            wait_for(lambda: is_up(client))
            client.headers["Authorization"] = f"Bearer {CANARY}"
            body = {"config": tiny_config().model_dump(mode="json")}
            client.post(f"{API}/runs", json=body).raise_for_status()
            wait_for(lambda: client.get(f"{API}/runs/1").json()["status"] == "finished")
            made = client.post(f"{API}/tokens", json={"name": "made", "role": "viewer"}).json()
            wrong = {"Authorization": "Bearer wrong-secret-of-somebody"}
            client.get("/runs", headers=wrong)
            answer = client.post("/login", data={"token": CANARY})
            cookie = answer.headers["set-cookie"].split("=", 1)[1].partition(";")[0]
            client.post("/login", data={"token": "wrong-secret-of-somebody"})
            client.get(f"/login?code={made['token']}")
            seen += [client.get(path).raise_for_status().text for path in PAGES]
            seen += [client.get(f"{API}/{path}").raise_for_status().text for path in ANSWERS]
            processes = [server, *server.children(recursive=True)]
            for process in processes:
                seen.append(" ".join(process.cmdline()))
                if process.pid != server.pid:
                    seen.append(str(process.environ()))
    finally:
        children = server.children(recursive=True)
        server.kill()
        for process in children:
            process.kill()
        psutil.wait_procs([server, *children])
    backup = make_backup(lab.settings)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert backup.path in files
    assert log in files
    for secret in (CANARY, given, made["token"], cookie, "wrong-secret-of-somebody"):
        assert not [text[:200] for text in seen if secret in text]
        assert not [file for file in files if secret.encode() in file.read_bytes()]
    lab.engine.dispose()
