"""Files that code opens and are not there, and files that nobody means to publish, are reported."""

from __future__ import annotations

import pytest

from t3d_server.packages.lint.assets import check_assets
from tests.packages.lint.findings import findings


def test_assets_are_held_against_the_folder() -> None:
    code = """
        def load_assets(self):
            self.fetch_asset("files/model.pt"), self.fetch_asset("./files\\\\model.pt"), self.fetch_asset(self.path)
            self.fetch_asset("files/modle.pt")
    """
    assert findings(check_assets, {"helper.py": code}, assets=["files/model.pt"]) == [
        "helper.py:4: fetch_asset('files/modle.pt'): there is no such file in the folder; "
        "did you mean 'files/model.pt'?"
    ]


ELSEWHERE = "Runner.py:2: the server has 'net.pt' at another path; open it by self.fetch_asset('files/net.pt')"


@pytest.mark.parametrize(
    ("line", "warnings"),
    [
        ('self.fetch_asset("files/net.pt")', []),
        ("self.fetch_asset(self.path)", []),
        ('(f"net_{1}", "net")', []),
        ('torch.load("files/net.pt")', [ELSEWHERE]),
        ('Path(__file__).parent / "files" / "net.pt"', [ELSEWHERE]),
        ("0", ["files/net.pt: no code opens it, and it is published with the rest; is it a left-over?"]),
        (
            'self.fetch_asset("files/net.pt"); open("/home/me/labels.txt")',
            [
                "Runner.py:2: '/home/me/labels.txt' is a path of this computer; put the file into files/ and open it "
                "by fetch_asset"
            ],
        ),
    ],
)
def test_files_that_only_this_computer_has_there_are_reported(line: str, warnings: list[str]) -> None:
    code = f"import torch; from pathlib import Path; self = 1\n{line}"
    assets = ["files/net.pt", "README.md", "files/labels.txt"]
    assert findings(check_assets, {"Runner.py": code}, assets=assets) == warnings


def test_secrets_and_left_overs_are_reported() -> None:
    assets = ["files/key.pem", "files/labels.txt", "id_rsa", "secrets.json", "try.ipynb"]
    assert [warning.split(":")[0] for warning in findings(check_assets, {"Runner.py": ""}, assets=assets)] == [
        "files/key.pem",
        "id_rsa",
        "secrets.json",
        "try.ipynb",
    ]
    code = 'self.fetch_asset("files/key.pem")'
    assert findings(check_assets, {"Runner.py": code}, assets=["files/key.pem"]) == []
