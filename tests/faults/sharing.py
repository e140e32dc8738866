"""Sharing: G2, G4, G5 and G11: many workers and one queue; nothing lost, nothing done twice."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
from lab import tiny_config
from server import API, client_at, free_port, is_up
from sqlalchemy import func, select

from app.models import Status, run_events, runs, workers
from app.settings import ROOT
from faults.promise import Shown
from faults.world import Hurt, World, eventually, problems_of
from trainer.config import RunConfig
from trainer.store.database import reading

DAY = 86_400.0
RELEASES = ("queued", "paused", "finished", "failed", "cancelled")


def short_config(seed: int) -> RunConfig:
    """A run of eight steps: mostly start and end, where a queue can go wrong."""
    recording = {"layer_steps": "never", "checkpoint_steps": 3}
    return tiny_config(seed=seed, budget={"epochs": 2}, recording=recording)


# -- G2: racing workers, killed servers -----------------------------------------------------


class KilledServer:
    """A server that only queues, and that is killed and started again at random."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = free_port()
        self.process = self.start()
        self.kills = 0

    def start(self) -> subprocess.Popen[bytes]:
        arguments = ["-m", "app", "serve", "--no-worker", "--port", str(self.port)]
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **self.world.settings.as_environment(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.kills += 1
        self.process = self.start()

    def add(self, client: httpx2.Client, config: RunConfig, key: str) -> int:
        """Queue a run, asking again with the same key until there is an answer."""
        while True:
            with contextlib.suppress(httpx2.TransportError):
                answer = client.post(
                    f"{API}/runs",
                    json={"config": config.model_dump(mode="json")},
                    headers={"Idempotency-Key": key},
                )
                if answer.status_code in (200, 201):
                    return int(answer.json()["id"])
            time.sleep(0.1)


def nothing_is_lost_or_doubled(
    folder: Path, seed: int, count: int, kills: int, server_kills: int
) -> tuple[Shown, Shown]:
    """Queue runs through a server that is killed, trained by two workers that are killed."""
    shown = Shown("G2", f"{count} runs, {kills} kills: none lost, none trained twice at once")
    whole = Shown("G5", "")
    started = time.monotonic()
    world = World.at(folder, seed, lease_seconds=3.0)
    server = KilledServer(world)
    hurts = [world.start_worker(folder / f"machine-{n}") for n in range(2)]
    accepted: dict[str, int] = {}
    try:
        with client_at(server.port) as client:
            eventually(lambda: is_up(client), "the server is up")
            queueing = threading.Thread(
                target=queue_all, args=(server, client, accepted, count), name="queueing"
            )
            queueing.start()
            done = kill_meanwhile(world, server, hurts, queueing, (kills, server_kills))
            queueing.join()
        eventually(lambda: not world.unfinished(), "the end of all runs", 600 + count)
        shown.must(done >= kills, f"only {done} of {kills} kills")
        count_runs(world, shown, accepted, count)
    finally:
        server.process.kill()
        server.process.wait()
        world.end()
    for problem in problems_of(world.lab):
        whole.must(False, problem)
    whole.what = f"{done} kills of workers, runs and servers: the database is whole"
    shown.seconds = whole.seconds = time.monotonic() - started
    world.lab.engine.dispose()
    return shown, whole


def queue_all(
    server: KilledServer, client: httpx2.Client, accepted: dict[str, int], count: int
) -> None:
    for number in range(count):
        key = f"key-{number}"
        accepted[key] = server.add(client, short_config(number), key)


def kill_meanwhile(
    world: World,
    server: KilledServer,
    hurts: list[Hurt],
    queueing: threading.Thread,
    wanted: tuple[int, int],
) -> int:
    """Kill runs, now and then a worker or the server, as long as there is work; how many."""
    kills, server_kills = wanted
    done = 0
    while done < kills and (queueing.is_alive() or world.unfinished()):
        time.sleep(world.chance.random() * 0.3)
        number = world.chance.randrange(len(hurts))
        if server.kills < server_kills and queueing.is_alive() and world.chance.random() < 0.1:
            server.kill()
            done += 1
        elif world.chance.random() < 0.1 and hurts[number].trainers():
            # only one at work: workers that are killed while they start would never get to it
            hurts[number].kill()
            hurts[number] = world.start_worker(hurts[number].folder)
            done += 1
        elif hurts[number].kill_trainer():
            done += 1
    return done


def count_runs(world: World, shown: Shown, accepted: dict[str, int], count: int) -> None:
    shown.must(len(set(accepted.values())) == count, "a key was given two runs, or two keys one")
    with reading(world.lab.engine) as connection:
        statuses = Counter(connection.execute(select(runs.c.status)).scalars())
        known = set(connection.execute(select(runs.c.id)).scalars())
        events = connection.execute(select(run_events).order_by(run_events.c.id)).all()
    shown.must(known == set(accepted.values()), f"{len(known)} runs for {count} accepted ones")
    shown.must(statuses == {Status.FINISHED: count}, f"they ended as {dict(statuses)}")
    for problem in broken_histories([(e.run_id, e.kind) for e in events]):
        shown.must(False, problem)
    for run_id in sorted(known):
        steps = world.lab.points(run_id, "train_loss").steps.tolist()
        total = world.lab.run(run_id).total_steps
        shown.must(steps == list(range(1, total + 1)), f"run {run_id} has the steps {steps}")


def broken_histories(events: list[tuple[int, str]]) -> list[str]:
    """Runs that were held twice at once, or ended twice, as their events tell it."""
    holding: dict[int, bool] = {}
    ended: Counter[int] = Counter()
    broken = []
    for run_id, kind in events:
        if kind == "running":
            if holding.get(run_id):
                broken.append(f"run {run_id} was claimed while somebody held it")
            holding[run_id] = True
        elif kind in RELEASES:
            if kind != "queued" and not holding.get(run_id):
                broken.append(f"run {run_id} became {kind} while nobody held it")
            holding[run_id] = False
            ended[run_id] += kind == "finished"
    return broken + [f"run {run} finished {n} times" for run, n in ended.items() if n > 1]


# -- G4: frozen workers ---------------------------------------------------------------------


def frozen_workers_do_no_damage(folder: Path, seed: int, takeovers: int) -> Shown:
    """Freeze the worker of a run beyond its lease, let another take over, and thaw it."""
    shown = Shown("G4", f"{takeovers} takeovers from frozen workers: no write of theirs accepted")
    started = time.monotonic()
    world = World.at(folder, seed, lease_seconds=2.5)
    hurts = [world.start_worker(folder / f"machine-{n}") for n in range(2)]
    endless = tiny_config(
        budget={"epochs": 100_000},
        recording={"layer_steps": "never", "checkpoint_steps": 20},
    )
    run_id = world.add(endless)
    try:
        for _ in range(takeovers):
            take_over(world, shown, hurts, run_id)
        steps = world.lab.points(run_id, "train_loss").steps
        shown.must(steps.tolist() == list(range(1, len(steps) + 1)), "steps are missing or doubled")
        with reading(world.lab.engine) as connection:
            query = select(run_events.c.run_id, run_events.c.kind).order_by(run_events.c.id)
            history = [(row.run_id, row.kind) for row in connection.execute(query)]
        for problem in broken_histories(history):
            shown.must(False, problem)
        taken = sum(kind == "running" for _, kind in history) - 1
        shown.must(taken >= takeovers, f"only {taken} takeovers happened")
    finally:
        world.end()
    for problem in problems_of(world.lab):
        shown.must(False, problem)
    shown.seconds = time.monotonic() - started
    world.lab.engine.dispose()
    return shown


def alive(world: World) -> int:
    with reading(world.lab.engine) as connection:
        living = select(func.count()).where(workers.c.ended_at.is_(None))
        return connection.execute(living).scalar_one()


def holder_of(world: World, hurts: list[Hurt], run_id: int) -> int | None:
    """Which of the workers holds the run, where one does."""
    with reading(world.lab.engine) as connection:
        process = connection.execute(
            select(workers.c.process)
            .join(runs, runs.c.worker_id == workers.c.id)
            .where(runs.c.id == run_id, runs.c.status == Status.RUNNING)
        ).scalar_one_or_none()
    found = [n for n, hurt in enumerate(hurts) if hurt.process.pid == process]
    return found[0] if found else None


def take_over(world: World, shown: Shown, hurts: list[Hurt], run_id: int) -> None:
    def are_two() -> bool:
        for number, hurt in enumerate(hurts):
            if hurt.has_ended:
                # on a machine this busy even a worker nobody froze may be taken for lost
                hurts[number] = world.start_worker(hurt.folder)
        return alive(world) == 2

    eventually(are_two, "two workers")
    frozen = eventually(lambda: holding(world, hurts, run_id), "somebody holds the run") - 1
    other = 1 - frozen
    fence, step = world.lab.run(run_id).fence, world.lab.run(run_id).step
    eventually(lambda: world.lab.run(run_id).step > step, "the run gets on")
    freeze(world, hurts[frozen])

    def is_taken_over() -> bool:
        if hurts[other].has_ended:
            # a machine too busy for its signs; what is frozen stays so meanwhile
            hurts[other] = world.start_worker(hurts[other].folder)
        return holder_of(world, hurts, run_id) == other

    eventually(is_taken_over, "the other takes over")
    taken = world.lab.run(run_id)
    shown.must(taken.fence > fence, f"the fence stayed at {fence}")
    hurts[frozen].send(signal.SIGCONT)
    eventually(lambda: hurts[frozen].has_ended, "the thawed worker ends")
    unchanged = (
        world.lab.run(run_id).fence == taken.fence and holder_of(world, hurts, run_id) == other
    )
    shown.must(
        unchanged,
        f"who has the run changed after {frozen} was thawed: {world.history(run_id)[-8:]}",
    )


def holding(world: World, hurts: list[Hurt], run_id: int) -> int:
    """One more than the number of the holder; 0 where there is none."""
    holder = holder_of(world, hurts, run_id)
    return 0 if holder is None else holder + 1


def freeze(world: World, hurt: Hurt) -> None:
    """Stop everything, but not in the middle of a transaction: on one machine a process that
    stands still with SQLite's only lock stops everybody."""
    while True:
        hurt.send(signal.SIGSTOP)
        # a signal sent is not yet obeyed: another core may still be on its way into a transaction
        eventually(hurt.stands_still, "every thread of the frozen worker stands still")
        if not is_locked(world):
            return
        hurt.send(signal.SIGCONT)
        # long enough for the others to get at the lock: without a sign they would count as lost
        time.sleep(0.2 + world.chance.random() * 0.3)


def is_locked(world: World) -> bool:
    """Whether somebody holds the write lock for longer than a moment."""
    connection = sqlite3.connect(world.settings.folder / "tricklab.db", timeout=1.0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


# -- G11: clocks that jump ------------------------------------------------------------------


def clocks_may_jump(folder: Path, seed: int, jumps: int) -> Shown:
    """Put the clock a day forward and back while two workers train."""
    shown = Shown("G11", f"{jumps} jumps of the clock by a day: no living worker lost its run")
    started = time.monotonic()
    world = World.at(folder, seed, lease_seconds=2.0)
    endless = tiny_config(
        budget={"epochs": 100_000}, recording={"layer_steps": "never", "checkpoint_seconds": 1}
    )
    try:
        for number in range(2):
            world.start_worker(folder / f"machine-{number}")
        numbers = [world.add(endless) for _ in range(2)]
        for run_id in numbers:
            world.wait_for_step(run_id, 5)
        for number in range(jumps):
            (world.faults / "clock").write_text(str((1, -1, 0)[number % 3] * DAY))
            time.sleep(3.0)
        for run_id in numbers:
            run = world.lab.run(run_id)
            shown.must(run.status == Status.RUNNING, f"run {run_id} is {run.status}: {run.reason}")
            shown.must(run.attempt == 1, f"run {run_id} was started {run.attempt} times")
            before = run.step
            eventually(lambda n=run_id, b=before: world.lab.run(n).step > b, "it gets on")
    finally:
        world.end()
    shown.seconds = time.monotonic() - started
    world.lab.engine.dispose()
    return shown
