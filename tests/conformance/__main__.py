"""The suite as a command; see the package."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.conformance import AREAS, FIRST
from tests.conformance.differences import DIFFERENCES
from tests.conformance.models import FLAGS, ZOO, lay_out
from tests.conformance.rows import Row, Setting
from tests.conformance.server import Server
from tests.zoo import Zoo

_FLAG_OF = {
    Setting.CORS: "--rest_api_enable_cors_support",
    Setting.CHECKED: "--enable_signature_method_name_check",
    Setting.CONTENT: "--enable_serialization_as_tensor_content",
}


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 if every row is answered as the original does, or otherwise on purpose."""
    if arguments[:1] == ["models"]:
        return _write_models(Path(arguments[1]).absolute())
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("--grpc", required=True, help="address, such as localhost:8500")
    parser.add_argument("--rest", required=True, help="URL, such as http://localhost:8501")
    parser.add_argument("--models", default=".", help="the folder of the models, as the server sees it")
    parser.add_argument("--setting", default=Setting.STOCK, choices=_FLAG_OF, help="what else the server has on")
    parser.add_argument("--area", choices=AREAS, help="only these rows")
    options = parser.parse_args(arguments)
    server = Server(options.rest, options.grpc, options.models)
    areas = {"first": FIRST} if options.setting == Setting.STOCK else {}
    areas |= {options.area: AREAS[options.area]} if options.area else AREAS
    passed = asked = 0
    for area, all_rows in areas.items():
        rows = [row for row in all_rows if row.setting == options.setting]
        good = sum(_ask(server, row) for row in rows)
        print(f"{area:15} {good:4} / {len(rows)}")
        passed, asked = passed + good, asked + len(rows)
    server.close()
    print(f"{'all':15} {passed:4} / {asked}")
    return int(passed < asked)


def _ask(server: Server, row: Row) -> bool:
    """Whether the answer is the original's or an intended one; says what else it is."""
    complaint = server.complaint(row, original=True)
    if complaint is None:
        return True
    if row.differs and server.complaint(row, original=False) is None:
        print(f"  on purpose: {row}\n      {DIFFERENCES[row.differs].reason}")
        return True
    print(f"  {row}\n      {complaint}")
    return False


def _write_models(folder: Path) -> int:
    zoo = folder / "zoo"
    subprocess.run([sys.executable, "-m", "tests.zoo", str(zoo), *ZOO], check=True)
    lay_out(folder, Zoo(zoo))
    flags = " ".join(FLAGS).replace("%MODELS%", str(folder))
    print(f"tensorflow_model_server {flags}\nserving-app model-server {flags}")
    for setting, flag in _FLAG_OF.items():
        print(f"and for --setting {setting} also {flag}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
