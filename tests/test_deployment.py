"""The files that install, build and start Tricklab say what the code does."""

import ipaddress
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from app.cli import app
from app.health import router
from app.settings import ROOT, Settings

MAKE = shutil.which("make") or "make"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
FIELDS = Settings.model_fields
NAMES = {f"TRICKLAB_{name.upper()}" for name in FIELDS}
DEFAULTS = Settings.model_construct()


def lines_of(name: str) -> list[str]:
    """The lines of a file of the checkout; those that end in a backslash are joined."""
    return (ROOT / name).read_text().replace("\\\n", " ").splitlines()


def instructions(word: str) -> list[str]:
    """What follows `word` in each line of the Dockerfile that begins with it."""
    return [line.split(maxsplit=1)[1] for line in lines_of("Dockerfile") if line.startswith(word)]


def options_of(words: list[str]) -> dict[str, Any]:
    """The options with which `tricklab` would run. Raises what typer says to a wrong one."""
    name, *rest = words
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    options: dict[str, Any] = command.make_context(name, list(rest)).params
    return options


def make(
    *arguments: str, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run make, as if not itself started by one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        [MAKE, *arguments],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def fresh_clone(tmp_path: Path) -> Path:
    """A folder with what make reads, and nothing installed."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


# settings


@pytest.mark.parametrize("name", ["docker-compose.yml", "Dockerfile", ".env.example", "Makefile"])
def test_every_setting_a_file_names_exists(name: str) -> None:
    named = set(re.findall(r"TRICKLAB_[A-Z_]*[A-Z]", (ROOT / name).read_text()))
    assert named
    assert named <= NAMES


@pytest.mark.parametrize("name", FIELDS)
def test_the_example_of_an_env_file_describes_every_setting(name: str) -> None:
    prose = " ".join((ROOT / ".env.example").read_text().replace("\n# ", " ").split())
    assert f"{FIELDS[name].description} " in prose


def test_the_example_of_an_env_file_holds_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    given = re.findall(r"^#(TRICKLAB_.*)", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {line.partition("=")[0] for line in given} == NAMES
    file = tmp_path / "env"
    file.write_text("\n".join(given))
    assert Settings(_env_file=file).model_dump() == DEFAULTS.model_dump()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_empty_variable_leaves_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    field = name.removeprefix("TRICKLAB_").lower()
    assert getattr(Settings(_env_file=None), field) == getattr(DEFAULTS, field)


def test_an_env_file_with_secrets_is_never_committed() -> None:
    assert ".env" in lines_of(".gitignore")


# the image


def test_the_image_starts_the_installed_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = instructions("ENTRYPOINT")
    (command,) = instructions("CMD")
    assert yaml.safe_load(entry) == ["tricklab"]
    assert "tricklab" in scripts
    options_of(yaml.safe_load(command))


@pytest.mark.parametrize("source", [s for line in instructions("COPY") for s in line.split()[:-1]])
def test_what_the_image_copies_exists_and_is_not_kept_from_it(source: str) -> None:
    assert (ROOT / source).exists()
    assert f"!{source}" in lines_of(".dockerignore")


def test_the_image_holds_everything_that_is_read_at_run_time() -> None:
    copied = {source for line in instructions("COPY") for source in line.split()[:-1]}
    assert {"app", "trainer", "templates", "static", "migrations"} <= copied


def test_nothing_enters_the_image_unless_it_is_copied() -> None:
    everything, *rest = [line for line in lines_of(".dockerignore") if line[0] != "#"]
    let_in = {line[1:] for line in rest if line.startswith("!")}
    assert everything == "*"
    assert let_in == {source for line in instructions("COPY") for source in line.split()[:-1]}


def test_the_image_exposes_the_port_the_server_listens_on() -> None:
    assert instructions("EXPOSE") == [str(DEFAULTS.port)]


def test_the_image_asks_the_server_for_its_health_where_it_answers() -> None:
    (check,) = instructions("HEALTHCHECK")
    port, path = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)[0]
    assert int(port) == DEFAULTS.port
    assert path in {route.path for route in router.routes}  # type: ignore[attr-defined]


def test_the_image_keeps_the_lab_on_its_volume() -> None:
    (volume,) = instructions("VOLUME")
    assert any(f"TRICKLAB_FOLDER={volume}" in line for line in instructions("ENV"))


def test_the_image_does_not_run_as_root() -> None:
    (user,) = instructions("USER")
    assert user == "tricklab"
    assert any(f"useradd --create-home --uid 1000 {user}" in line for line in instructions("RUN"))


def test_the_image_leaves_it_to_a_person_to_trust_the_network() -> None:
    assert not any("TRICKLAB_TRUST" in line for line in instructions("ENV"))


# the services


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_with_options_it_has(name: str) -> None:
    options_of(OURS[name]["command"])


def test_server_and_workers_are_services_of_their_own() -> None:
    assert options_of(SERVICES["web"]["command"])["worker"] is False
    assert {service["command"][0] for service in OURS.values()} == {"serve", "worker"}
    assert options_of(SERVICES["worker-gpu"]["command"])["device"] == "cuda"


@pytest.mark.parametrize("name", SERVICES)
def test_a_published_port_is_reached_from_this_machine_only(name: str) -> None:
    for published in SERVICES[name].get("ports", []):
        host, _, inside = published.rsplit(":", 2)
        assert ipaddress.ip_address(host).is_loopback
        assert int(inside) == DEFAULTS.port


def test_the_server_listens_beyond_loopback_only_because_it_is_told_to() -> None:
    web = SERVICES["web"]
    assert options_of(web["command"])["host"] == "0.0.0.0"
    # and only for who has a token, without which it does not start
    assert web["environment"]["TRICKLAB_TOKEN"].startswith("${TRICKLAB_TOKEN:?")
    assert web["ports"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_shares_the_lab_on_the_volume_of_the_image(name: str) -> None:
    (inside,) = instructions("VOLUME")
    (mounted,) = OURS[name]["volumes"]
    volume, _, path = mounted.partition(":")
    assert path == inside
    assert volume in COMPOSE["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_can_be_given_another_database(name: str) -> None:
    environment = OURS[name]["environment"]
    assert environment.get("TRICKLAB_DATABASE", "not passed on") is None


def test_a_worker_has_a_lasting_name_and_room_for_its_loaders() -> None:
    workers = [service for service in OURS.values() if service["command"][0] == "worker"]
    assert len({worker["hostname"] for worker in workers}) == len(workers) == 2
    assert all(worker["shm_size"] for worker in workers)
    assert all(worker["healthcheck"] == {"disable": True} for worker in workers)


def test_a_stopped_worker_has_time_to_give_its_run_back() -> None:
    from app.models import Asked
    from app.supervision import PATIENCE

    _, killed_after = PATIENCE[Asked.GIVE_BACK]
    for service in OURS.values():
        if service["command"][0] == "worker":
            assert int(service["stop_grace_period"].removesuffix("s")) > killed_after


def test_a_gpu_and_a_database_server_are_there_on_demand() -> None:
    on_demand = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert on_demand == {
        "web": None,
        "worker": None,
        "worker-gpu": ["gpu"],
        "database": ["postgres"],
    }


def test_the_gpu_worker_gets_a_gpu_and_a_build_of_torch_for_it() -> None:
    worker = SERVICES["worker-gpu"]
    (argument,) = instructions("ARG")
    name, _, default = argument.partition("=")
    assert worker["build"]["args"][name] != default
    assert worker["image"] != SERVICES["worker"]["image"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_database_has_no_password_of_ours() -> None:
    assert SERVICES["database"]["environment"]["POSTGRES_PASSWORD"] == "${POSTGRES_PASSWORD:-}"


def test_the_advertised_database_url_is_that_of_the_database_service() -> None:
    from sqlalchemy import make_url

    text = (ROOT / "docker-compose.yml").read_text()
    (url,) = re.findall(r"TRICKLAB_DATABASE=(\S+)", text)
    location = make_url(url)
    assert location.get_dialect().driver == "psycopg"
    assert location.host in SERVICES
    assert location.username == SERVICES["database"]["environment"]["POSTGRES_USER"]
    # the image of PostgreSQL names the database like its user
    assert location.database == location.username


# make


@pytest.mark.parametrize("target", ["demo", "serve", "worker", "test", "check", "format"])
def test_make_has_the_target_and_lists_it(target: str) -> None:
    (phony,) = [line for line in lines_of("Makefile") if line.startswith(".PHONY:")]
    assert target in phony.split()
    assert re.search(rf"^  make {target} +\S", make("help").stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_in_the_documentation_exists(name: str) -> None:
    (phony,) = [line for line in lines_of("Makefile") if line.startswith(".PHONY:")]
    commands = re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / name).read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(commands) <= set(phony.split())


def test_make_alone_lists_what_it_can_do() -> None:
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize(
    "line", [line.strip() for line in lines_of("Makefile") if line.startswith("\t@$(BIN)/tricklab")]
)
def test_make_starts_commands_that_exist(line: str) -> None:
    options_of(shlex.split(line)[1:])


@pytest.mark.parametrize("target", ["demo", "serve", "worker", "test", "slow", "gpu"])
def test_make_begins_a_fresh_clone_with_an_environment_and_an_install(
    fresh_clone: Path, target: str
) -> None:
    steps = make("-n", target, folder=fresh_clone).stdout
    assert steps.index("-m venv .venv") < steps.index("pip install") < len(steps)


def test_make_installs_again_only_when_the_project_file_changed(fresh_clone: Path) -> None:
    for name in ("bin/pip", "installed"):
        (fresh_clone / ".venv" / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh_clone / ".venv" / name).touch()
    assert make("-n", "demo", folder=fresh_clone).stdout == ".venv/bin/tricklab demo\n"
    project = fresh_clone / "pyproject.toml"
    later = project.stat().st_mtime + 10
    os.utime(project, (later, later))
    assert "pip install" in make("-n", "demo", folder=fresh_clone).stdout


def test_make_test_installs_and_checks_everything(fresh_clone: Path) -> None:
    planned = make("-n", "test", folder=fresh_clone)
    assert planned.returncode == 0, planned.stderr
    steps = ["[dev,postgres]", "ruff check", "ruff format --check", "bin/mypy", "pytest -q -n 3"]
    places = [planned.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "playwright install" not in planned.stdout


def test_a_machine_without_a_new_python_is_told_what_to_install(fresh_clone: Path) -> None:
    claim = "import sys; sys.version_info = (3, 10, 9); exec(sys.argv[1])"
    old = program(fresh_clone / "python3.10", f'exec {sys.executable} -c "{claim}" "$2"')
    result = make(".venv/bin/pip", f"PYTHON={old} no-such-python", folder=fresh_clone)
    assert result.returncode != 0
    assert "Python 3.11 or later" in result.stderr
    assert "apt-get install python3" in result.stderr


def test_a_python_without_its_venv_module_is_told_by_name(fresh_clone: Path) -> None:
    bare = program(fresh_clone / "python3.12", 'case "$*" in *ensurepip*) exit 1;; esac')
    result = make(".venv/bin/pip", f"PYTHON={bare}", folder=fresh_clone)
    assert result.returncode != 0
    assert "apt-get install python3.12-venv" in result.stderr


def test_the_first_python_that_fits_is_taken(fresh_clone: Path) -> None:
    shim = program(fresh_clone / "python3.13", "exit 127")
    bare = program(fresh_clone / "python3.12", 'case "$*" in *ensurepip*) exit 1;; esac')
    good = program(fresh_clone / "python3.11", 'echo "given $*"')
    result = make(".venv/bin/pip", f"PYTHON={shim} {bare} {good}", folder=fresh_clone)
    assert "given -m venv .venv" in result.stdout


def test_the_tests_do_not_begin_without_a_browser(fresh_clone: Path) -> None:
    programs = fresh_clone / "programs"
    programs.mkdir()
    for name in ("id", "env"):
        (programs / name).symlink_to(shutil.which(name) or name)
    result = make("test", folder=fresh_clone, PATH=str(programs))
    assert result.returncode != 0
    assert "Debian: apt-get install chromium" in result.stderr
    assert not (fresh_clone / ".venv").exists()


# continuous integration


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    readme = {line.partition("#")[0].strip() for block in blocks for line in block.splitlines()}
    commands = [line for line in lines_of(".ci/run") if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert commands[1].startswith("cd ")
    assert commands[2:] == ["make test"]
    assert "make test" in readme
    assert os.access(script, os.X_OK)


def program(path: Path, script: str) -> Path:
    """An executable of a few words of shell."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
