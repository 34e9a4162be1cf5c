"""Check: the files that code opens are in the folder, and the folder holds none that nobody means to publish."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from t3d_server.errors import Problem
from t3d_server.packages.lint.sources import Folder
from t3d_server.packages.wording import did_you_mean

_MODEL = re.compile(r".*\.(pt|pth|ckpt|onnx|safetensors|h5|hdf5|pb|tflite|joblib|pkl|npz|npy|bin|weights)", re.I)
_SECRET = re.compile(r"id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|key|p12|pfx)|(credentials?|secrets?|tokens?)(\..*)?", re.I)
_LEFT_OVER = re.compile(r".*\.(bak|orig|rej|tmp|log|ipynb)", re.I)
_OF_ONE_COMPUTER = re.compile(r"(/home/|/Users/|/root/|~/|[A-Za-z]:[\\/])\w")


def check_assets(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each file that code opens and is not there, or is opened by a path that the server lacks.

    Also for each asset that looks as if nobody meant to publish it.
    """
    fetched, texts, is_complete = _texts(folder)
    for place, asset in fetched:
        if _plain(asset) not in folder.assets:
            hint = did_you_mean(asset, folder.assets)
            yield Problem(place, f"fetch_asset({asset!r}): there is no such file in the folder{hint}")
    for place, text in texts:
        if _OF_ONE_COMPUTER.match(text):
            advice = "put the file into files/ and open it by fetch_asset"
            yield Problem(place, f"{text!r} is a path of this computer; {advice}")
    names = {_plain(asset) for _, asset in fetched}
    for asset in folder.assets:
        if asset in names:
            continue
        name = PurePosixPath(asset).name
        if _SECRET.fullmatch(name):
            yield Problem(asset, "looks like a secret; all files of the folder are published, so keep it elsewhere")
        elif _LEFT_OVER.fullmatch(name):
            yield Problem(asset, "looks like a left-over, and is published with the rest; keep it elsewhere")
        elif is_complete:
            yield from _unfetched(asset, texts)


def _unfetched(asset: str, texts: Collection[tuple[str, str]]) -> Iterator[Problem]:
    """Warnings about an asset that no call fetches, where every call shows what it fetches."""
    name = PurePosixPath(asset).name
    places = [place for place, text in texts if _plain(text) == asset or (text == name and text != asset)]
    for place in places:
        yield Problem(place, f"the server has {name!r} at another path; open it by self.fetch_asset({asset!r})")
    if not places and _MODEL.fullmatch(name) and not any(PurePosixPath(name).stem in text for _, text in texts):
        yield Problem(asset, "no code opens it, and it is published with the rest; is it a left-over?")


def _texts(folder: Folder) -> tuple[list[tuple[str, str]], list[tuple[str, str]], bool]:
    """What calls fetch and all other strings, each after its place; and whether every call shows what it fetches."""
    fetched, texts, is_complete = [], [], True
    for path, source in folder.sources.items():
        seen = set()  # calls come before what is in them
        for node in source.nodes:
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="fetch_asset"), args=[ast.Constant(value=str(asset)) as text, *_]
                ):
                    seen.add(text)
                    fetched.append((f"{path}:{node.lineno}", asset))
                case ast.Call(func=ast.Attribute(attr="fetch_asset")):
                    is_complete = False
                case ast.Constant(value=str(text)) if node not in seen:
                    texts.append((f"{path}:{node.lineno}", text))
    return fetched, texts, is_complete


def _plain(asset: str) -> str:
    return PurePosixPath(asset.replace("\\", "/")).as_posix()
