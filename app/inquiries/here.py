"""Here: an inquiry answered for a command, by a process of its own and without a lab's queue."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from app import endings
from app.executors.local import ChildProcess, LocalExecutor
from app.executors.training import peak_of
from app.runlog import last_line
from app.settings import Settings
from app.sources import data_folders
from trainer.build import choose_device
from trainer.failpoints import failpoint
from trainer.failures import failure_of
from trainer.inquiries import Bench, Inquiry, Tell
from trainer.part import Refused

LOOK_SECONDS = 0.2
ENDING_SECONDS = 2.0


@dataclass(frozen=True)
class Question:
    """What the process is to answer, and where it says what it knows."""

    inquiry: Inquiry
    device: str
    channel: Connection

    def send(self, **news: Any) -> None:
        # JSON and no pickles; its NaN and Infinity are read again by Python
        self.channel.send_bytes(json.dumps(news).encode())


def answer_here(inquiry: Inquiry, settings: Settings, tell: Tell) -> Mapping[str, Any]:
    """The answer. Raises Refused with what went wrong where there is none."""
    device = str(choose_device(inquiry.device))
    executor = LocalExecutor(settings)
    reader, writer = executor.context.Pipe(duplex=False)
    said: list[str] = []
    question = Question(inquiry, device, writer)
    process = executor.start(answer_question, question, "inquiry", said.append)
    writer.close()
    try:
        for news in heard(reader, process):
            if "answer" in news:
                answer: Mapping[str, Any] = news["answer"]
                return answer
            if "failure" in news:
                raise Refused(news["failure"])
            tell(**news)
    finally:
        process.kill()
        process.wait(ENDING_SECONDS)
        process.finish_listening()
        reader.close()
    raise Refused(endings.crash(process.exit_code, last_line("".join(said))).reason)


def heard(reader: Connection, process: ChildProcess) -> Iterator[dict[str, Any]]:
    """What the process says, until it has nothing more to say or is gone."""
    with suppress(EOFError):
        while True:
            # asked first: what it said last has then arrived
            has_ended = process.wait(0)
            if reader.poll(LOOK_SECONDS):
                yield json.loads(reader.recv_bytes())
            elif has_ended:
                return


def answer_question(question: Question, settings: Settings) -> None:
    """What the process does."""

    def tell(share: float, doing: str, so_far: Mapping[str, Any] | None = None) -> None:
        question.send(share=share, doing=doing, so_far=so_far)

    bench = Bench(choose_device(question.device), data_folders(settings), tell)
    failpoint("inquiry.answer")
    try:
        question.send(answer=question.inquiry.answer(bench))
    except Exception as error:
        failure = failure_of(error, {"peak_memory_bytes": peak_of(question.device)})
        question.send(failure=failure.reason)
