"""Which files of a folder an author's code opens, and which of them nobody means to publish. Runs none of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath

from t3d_server.packages.wording import did_you_mean

_MODEL = re.compile(r".*\.(pt|pth|ckpt|onnx|safetensors|h5|hdf5|pb|tflite|joblib|pkl|npz|npy|bin|weights)", re.I)
_SECRET = re.compile(r"id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|key|p12|pfx)|(credentials?|secrets?|tokens?)(\..*)?", re.I)
_LEFT_OVER = re.compile(r".*\.(bak|orig|rej|tmp|log|ipynb)", re.I)
_OF_ONE_COMPUTER = re.compile(r"(/home/|/Users/|/root/|~/|[A-Za-z]:[\\/])\w")


def check_assets(trees: Mapping[str, ast.Module], assets: Collection[str]) -> Iterator[str]:
    """Hold the files that code opens against those of the folder.

    Args:
        trees: syntax tree of each Python file by path.
        assets: paths of all other files of the folder.

    Yields:
        A warning for each file that is not there, is opened by a path that the server does not have, or looks as if
        nobody meant to publish it.
    """
    fetched, texts, all_told = _texts(trees)
    for place, asset in fetched:
        if _plain(asset) not in assets:
            there = f"there is no such file in the folder{did_you_mean(asset, assets)}"
            yield f"{place}: fetch_asset({asset!r}): {there}"
    for place, text in texts:
        if _OF_ONE_COMPUTER.match(text):
            yield f"{place}: {text!r} is a path of this computer; put the file into files/ and open it by fetch_asset"
    names = {_plain(asset) for _, asset in fetched}
    for asset in assets:
        name = PurePosixPath(asset).name
        if _SECRET.fullmatch(name) and asset not in names:
            yield f"{asset}: looks like a secret; all files of the folder are published, so keep it elsewhere"
        elif _LEFT_OVER.fullmatch(name) and asset not in names:
            yield f"{asset}: looks like a left-over, and is published with the rest; keep it elsewhere"
        elif all_told and asset not in names:
            yield from _unfetched(asset, texts)


def _unfetched(asset: str, texts: Collection[tuple[str, str]]) -> Iterator[str]:
    """An asset that no call fetches, where it is known of all calls what they fetch."""
    name = PurePosixPath(asset).name
    places = [place for place, text in texts if _plain(text) == asset or (text == name and text != asset)]
    for place in places:
        yield f"{place}: the server has {name!r} at another path; open it by self.fetch_asset({asset!r})"
    if not places and _MODEL.fullmatch(name) and not any(PurePosixPath(name).stem in text for _, text in texts):
        yield f"{asset}: no code opens it, and it is published with the rest; is it a left-over?"


def _texts(trees: Mapping[str, ast.Module]) -> tuple[list[tuple[str, str]], list[tuple[str, str]], bool]:
    """What is fetched, all other text, each with its place; and whether it is known of all calls what they fetch."""
    fetched, texts, all_told = [], [], True
    for path, tree in trees.items():
        seen = set()  # calls come before what is in them
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="fetch_asset"), args=[ast.Constant(value=str(asset)) as text, *_]
                ):
                    seen.add(text)
                    fetched.append((f"{path}:{node.lineno}", asset))
                case ast.Call(func=ast.Attribute(attr="fetch_asset")):
                    all_told = False
                case ast.Constant(value=str(text)) if node not in seen:
                    texts.append((f"{path}:{node.lineno}", text))
    return fetched, texts, all_told


def _plain(asset: str) -> str:
    return PurePosixPath(asset.replace("\\", "/")).as_posix()
