"""A process that sends jobs to a cluster and prints what it saw: ``python sender.py ADDRESS FOLDER``."""

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from cluster.jobs import ClusterJob, Jobs, UnknownJob

AT_WORK = """
import os, ray, sys
sys.path.pop(0)  # the driver's own folder: what is found is found by the import path
import said
ray.init("auto", configure_logging=False, log_to_driver=False)

@ray.remote(num_cpus=0)
def there():
    import said
    return f"worker: {said.WORD} {os.environ['COLOUR']}"

print(f"driver: {said.WORD} {os.environ['COLOUR']}")
print(ray.get(there.remote()))
"""
PATIENT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("let go", flush=True), sys.exit(130)))
print("at work", flush=True)
time.sleep(600)
"""


def seen(job: ClusterJob) -> dict[str, object]:
    return {"state": job.state, "code": job.code, "labels": job.labels, "over": job.over}


def until(word: str, pieces: Iterator[str]) -> None:
    for piece in pieces:
        if word in piece:
            return


def main(address: str, folder: Path) -> None:
    archive = folder / "sent.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in (("said.py", "WORD = 'hello'"), ("at_work.py", AT_WORK), ("patient.py", PATIENT)):
            file.writestr(name, text)
    jobs, found = Jobs.at(address), {}
    commands = {"good": "exec python at_work.py", "bad": "echo no; exit 2", "slow": "exec python patient.py"}
    for name, command in commands.items():
        jobs.submit(name, command, archive, {"COLOUR": "red"}, {"name": name})
    archive.unlink()
    for name in ("good", "bad"):
        found[name] = {"told": "".join(jobs.follow(name)), "log": jobs.log(name), **seen(jobs.job(name))}
    until("at work", jobs.follow("slow"))
    found["running"] = seen(jobs.job("slow"))
    found["stop"] = [jobs.stop("slow"), jobs.wait("slow", 30).state, jobs.stop("slow")]
    found["slow"] = {"log": jobs.log("slow"), **seen(jobs.job("slow"))}
    found["all"] = [job.name for job in jobs.all()]
    found["nodes"] = jobs.nodes()
    for call in (jobs.job, jobs.log, jobs.stop, lambda name: list(jobs.follow(name))):
        try:
            call("nobody")
        except UnknownJob as error:
            found.setdefault("unknown", []).append(str(error))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
