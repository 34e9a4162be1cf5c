"""What a manifest may say, and what is said about one that breaks a rule."""

# ruff: noqa: E501  # exact messages
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t3d_server.errors import InvalidPackageError
from t3d_server.models import Manifest
from t3d_server.packages.manifest import parse_manifest

TAGS = {"Image2Image": {"image-denoising": ""}, "Image2Embedding": {"image-embedding": ""}, "Generic": {}}
PROJECT = '[project]\nname = "foo"\nversion = "1.2.3"\n'
SECTION = "tool.t3dserver"


def section(text: str) -> str:
    return f"{PROJECT}[{SECTION}]\n{text}"


def test_name_and_version_are_enough() -> None:
    assert parse_manifest(PROJECT, tags=TAGS) == (Manifest(name="foo", version="1.2.3"), [])


def test_everything_that_can_be_said_is_read() -> None:
    manifest, warnings = parse_manifest(
        PROJECT
        + """
        dependencies = ["numpy>=1.26", "torch; python_version >= '3.11'"]
        requires-python = ">=3.11"
        [build-system]
        [tool.ruff]
        [tool.t3dserver]
        algorithm_type = "Image2Image"
        tags = ["image-denoising"]
        description = "Denoises."
        supported_devices = ["cpu", "gpu"]
        default_device = "gpu"
        check_importable = true
        obfuscate = true
        hash_module = false
        hash_assets = false
        load_timeout_s = 30
        timeout_s = 60
        num_cpus = 0.5
        gpu_memory = "1.5GiB"
        min_replicas = 1
        max_replicas = 2
        runs_per_replica = 3
        """,
        tags=TAGS,
    )
    assert warnings == []
    assert manifest == Manifest(
        name="foo",
        version="1.2.3",
        dependencies=["numpy>=1.26", "torch; python_version >= '3.11'"],
        algorithm_type="Image2Image",
        tags=["image-denoising"],
        description="Denoises.",
        supported_devices=["cpu", "gpu"],
        default_device="gpu",
        check_importable=True,
        obfuscate=True,
        hash_module=False,
        hash_assets=False,
        load_timeout_s=30,
        timeout_s=60,
        num_cpus=0.5,
        gpu_memory_bytes=3 * 2**29,
        min_replicas=1,
        max_replicas=2,
        runs_per_replica=3,
    )


def test_the_last_example_of_the_module_spec_is_read_with_warnings() -> None:
    manifest, warnings = parse_manifest((Path(__file__).parent / "foo" / "pyproject.toml").read_text(), tags=TAGS)
    assert manifest.additional_parameters[0].type == "string"
    assert warnings[1:] == [
        f'{SECTION}.additional_parameters[some_user_defined_args].type: "str" is read as "string"',
        f"{SECTION}.tags[0]: 'foo' is no known tag of 'Generic'",
        f"{SECTION}.tags[1]: 'bar' is no known tag of 'Generic'",
    ]


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("", (["cpu"], "cpu")),
        ('supported_devices = ["gpu"]', (["gpu"], "gpu")),
        ('supported_devices = ["gpu", "cpu"]', (["gpu", "cpu"], "cpu")),
        ('supported_devices = ["gpu", "cpu"]\ndefault_device = "gpu"', (["gpu", "cpu"], "gpu")),
    ],
)
def test_devices(text: str, devices: tuple[list[str], str]) -> None:
    manifest, warnings = parse_manifest(section(text), tags=TAGS)
    assert (manifest.supported_devices, manifest.default_device) == devices
    assert warnings == []


@pytest.mark.parametrize(("supported", "default", "taken"), [('["cpu"]', "gpu", "cpu"), ('["gpu"]', "cpu", "gpu")])
def test_a_default_device_outside_of_the_supported_ones_is_replaced(supported: str, default: str, taken: str) -> None:
    text = section(f'supported_devices = {supported}\ndefault_device = "{default}"')
    manifest, warnings = parse_manifest(text, tags=TAGS)
    assert manifest.default_device == taken
    assert warnings == [
        f"{SECTION}.default_device: '{default}' is not one of supported_devices ({taken}); "
        f"it runs on '{taken}' by default"
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            section('algoritm_type = "X"'),
            f"{SECTION}.algoritm_type: unknown and ignored; did you mean 'algorithm_type'?",
        ),
        (section("xyz = 1"), f"{SECTION}.xyz: unknown and ignored"),
        (section("dependencies = []"), f"{SECTION}.dependencies: unknown and ignored; it belongs in [project]"),
        (PROJECT + "dependancies = []", "project.dependancies: unknown and ignored; did you mean 'dependencies'?"),
        (PROJECT + "tags = []", f"project.tags: unknown and ignored; it belongs in [{SECTION}]"),
        (
            section('algorithm_type = "Image2Image"\ntags = ["image-denoisin"]'),
            f"{SECTION}.tags[0]: 'image-denoisin' is no known tag of 'Image2Image'; did you mean 'image-denoising'?",
        ),
        (
            section('gpu_memory = "6GiB"'),
            f'{SECTION}.gpu_memory: has no effect, as supported_devices does not hold "gpu"',
        ),
    ],
)
def test_what_is_doubtful_is_a_warning(text: str, warning: str) -> None:
    assert parse_manifest(text, tags=TAGS)[1] == [warning]


NAME_RULE = "allowed is 1 to 64 of the characters A-Z a-z 0-9 . _ - (not dots alone)"
VERSION_RULE = 'allowed is three whole numbers, "major.minor.patch", such as "1.0.0"'


def problems(text: str) -> list[str]:
    """What is said of a manifest that is refused."""
    with pytest.raises(InvalidPackageError) as caught:
        parse_manifest(text, tags=TAGS)
    return list(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[project]\nversion = '1.0.0'", "name: is missing"),
        ("[project]\nname = 'a'", "version: is missing"),
        ("[project]\nname = 'a b'\nversion = '1.0.0'", f"name: found 'a b' (string), {NAME_RULE}"),
        ("[project]\nname = '..'\nversion = '1.0.0'", f"name: found '..' (string), {NAME_RULE}"),
        ("[project]\nname = 1\nversion = '1.0.0'", f"name: found 1 (integer), {NAME_RULE}"),
        ("[project]\nname = 'a'\nversion = '1.0'", f"version: found '1.0' (string), {VERSION_RULE}"),
        ("[project]\nname = 'a'\nversion = '1.0.0rc1'", f"version: found '1.0.0rc1' (string), {VERSION_RULE}"),
        ("[project]\nname = 'a'\nversion = '1.02.0'", f"version: found '1.02.0' (string), {VERSION_RULE}"),
        (
            "[project]\nname = 'a'\nversion = '1.0.9999999999'",
            f"version: found '1.0.9999999999' (string), {VERSION_RULE}",
        ),
        (PROJECT + "dependencies = 'numpy'", "dependencies: found 'numpy' (string), allowed is a list of requirements"),
        (
            PROJECT + "dependencies = ['numpy', '?']",
            "dependencies[1]: found '?', allowed is a requirement (PEP 508): Expected package name at the start of dependency specifier",
        ),
        (
            PROJECT + "dependencies = ['a; os_name ~= \"x\"']",
            """dependencies[0]: found 'a; os_name ~= "x"', allowed is a requirement (PEP 508): Undefined <Op('~=')> on 'posix' and 'x'.""",
        ),
    ],
)
def test_a_broken_rule_of_the_project_is_named(text: str, problem: str) -> None:
    """With key, finding and what is allowed."""
    assert problems(text) == [f"project.{problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tags = ['a', 1]", "tags: found ['a', 1] (list), allowed is a list of strings"),
        (
            "algorithm_type = 'Image2Image'\ntags = ['image-embedding']",
            "tags[0]: found 'image-embedding', a tag of Image2Embedding; the tags of 'Image2Image' are: image-denoising",
        ),
        ("obfuscate = 'yes'", "obfuscate: found 'yes' (string), allowed is true or false"),
        ("timeout_s = 0", "timeout_s: found 0 (integer), allowed is a number of seconds above 0"),
        ("load_timeout_s = 0", "load_timeout_s: found 0 (integer), allowed is a number of seconds above 0"),
        ("load_timeout_s = inf", "load_timeout_s: found inf (float), allowed is a number of seconds above 0"),
        ("num_cpus = 1e9", "num_cpus: found 1000000000.0 (float), allowed is a number from 0 to 10000"),
        ("min_replicas = true", "min_replicas: found true (boolean), allowed is an integer from 0 to 10000"),
        ("max_replicas = 0", "max_replicas: found 0 (integer), allowed is an integer from 1 to 10000"),
        ("min_replicas = 3\nmax_replicas = 2", "min_replicas: 3 is more than max_replicas, 2"),
        ("runs_per_replica = 1.0", "runs_per_replica: found 1.0 (float), allowed is an integer from 1 to 10000"),
        (
            "supported_devices = ['gpu']\nnum_gpus = 1.5",
            "num_gpus: found 1.5 (float), allowed is a number above 0, up to 10000; above 1, a whole one",
        ),
        (
            "supported_devices = ['tpu']",
            """supported_devices: found ['tpu'] (list), allowed is ["cpu"], ["gpu"] or ["cpu", "gpu"]""",
        ),
        ("default_device = 'cuda'", """default_device: found 'cuda' (string), allowed is "cpu" or "gpu\""""),
        (
            "supported_devices = ['gpu']\ngpu_memory = 6",
            """gpu_memory: found 6 (integer), allowed is a size with its unit, such as "6GiB\"""",
        ),
        (
            "supported_devices = ['gpu']\ngpu_memory = '6 gigs'",
            """gpu_memory: found '6 gigs' (string), allowed is a size with its unit, such as "6GiB\"""",
        ),
        (
            "supported_devices = ['gpu']\ngpu_memory = '6GB'\nnum_gpus = 1",
            "gpu_memory: is given beside num_gpus; both decide the share of a GPU, remove one of them",
        ),
        ("additional_parameters = 1", "additional_parameters: found 1 (integer), allowed is a list of tables"),
        (
            """additional_parameters = [
                {name = "p", description = "d", config = {type = "int", default = 1}},
                {name = "p", description = "d", config = {type = "int", default = 1}},
            ]""",
            "additional_parameters[p].name: 'p' is the name of an earlier parameter",
        ),
    ],
)
def test_a_broken_rule_of_the_section_is_named(text: str, problem: str) -> None:
    """With key, finding and what is allowed."""
    assert problems(section(text)) == [f"{SECTION}.{problem}"]


def test_a_section_that_is_no_table_is_named() -> None:
    assert problems(PROJECT + "[tool]\nt3dserver = 1") == [
        f"{SECTION}: found 1 (integer), allowed is a table, [{SECTION}]"
    ]


@pytest.mark.parametrize("value", ["1" + "0" * 5000, "[" * 500 + "]" * 500])
def test_toml_that_goes_on_and_on_is_refused(value: str) -> None:
    assert len(problems(f"{PROJECT}a = {value}")) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "a = [\n  {default = False},\n]",
            "pyproject.toml:2: Invalid value at 'False},' in `{default = False},`; TOML writes true and false in lower case",
        ),
        (
            "a = [\n  {b = 1}\n  {b = 2}\n]",
            "pyproject.toml:3: Unclosed array at '{b = 2}' in `{b = 2}`; is a comma missing before it, or a closing bracket?",
        ),
        ("a = hello", "pyproject.toml:1: Invalid value at 'hello' in `a = hello`; text needs quotes"),
        ("[project]\nname = \n", "pyproject.toml:2: Invalid value in `name =`"),
        ("a = 1\na = 2", "pyproject.toml:2: Cannot overwrite a value in `a = 2`"),
    ],
)
def test_toml_that_cannot_be_read_is_quoted_with_a_hint(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_all_problems_come_at_once() -> None:
    found = problems("[project]\nname = ''\n[tool.t3dserver]\ntags = 1\nobfuscate = 2")
    keys = ["project.name", "project.version", f"{SECTION}.tags", f"{SECTION}.obfuscate"]
    assert [problem.partition(":")[0] for problem in found] == keys


def test_doubts_stand_beside_problems() -> None:
    kind, type_, *warnings = problems(
        section(
            'algorithm_type = "Image2image"\ntags = ["image-denoisin"]\nsuported_devices = ["gpu"]\n'
            'additional_parameters = [{name = "p", description = "d", config = {type = "float-range"}}]'
        )
    )
    assert kind.startswith(f"{SECTION}.additional_parameters[p].config.type: found 'float-range'")
    assert kind.endswith("did you mean 'float_range'?")
    assert type_ == f"{SECTION}.algorithm_type: found 'Image2image'; did you mean 'Image2Image'?"
    assert warnings == [
        f"warning: {SECTION}.suported_devices: unknown and ignored; did you mean 'supported_devices'?",
        f"warning: {SECTION}.tags[0]: 'image-denoisin' is no known tag of 'Image2Image'; "
        "did you mean 'image-denoising'?",
    ]


@pytest.mark.parametrize(
    "table", ["tool.t3d_server", "tool.t3d-server", "tool.T3DServer", "tool.t3d", "tool.tdserver", "t3dserver"]
)
def test_a_table_of_nearly_the_right_name_is_not_passed_over(table: str) -> None:
    """An algorithm would be published without its parameters."""
    text = f'{PROJECT}[{table}]\ndescription = "d"\n'
    assert problems(text) == [f"{table}: is not read; the table has to be named [{SECTION}]"]
    parse_manifest(f"{text}[{SECTION}]\n", tags=TAGS)
    parse_manifest(f"{PROJECT}[tool.server]\n[tool.semver]\n", tags=TAGS)


def test_a_type_that_may_be_the_modules_own_is_left_to_its_class() -> None:
    """With its tags, whoever else has them."""
    manifest, warnings = parse_manifest(
        section("algorithm_type = 'Image2Images'\ntags = ['image-denoising', 'x']"), tags=TAGS
    )
    assert (manifest.algorithm_type, manifest.tags, warnings) == ("Image2Images", ["image-denoising", "x"], [])


toml_values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([-1, 0, 1, 2, 10**400])
    | st.floats()
    | st.sampled_from(["", "int", "gpu", "6GiB", "int_range"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "description", "config", "type", "default", "min", "max"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Manifest.model_fields, "gpu_memory"]), toml_values, max_size=4))
def test_nothing_but_an_invalid_package_is_ever_raised(content: dict[str, object]) -> None:
    text = "\n".join(f"{key} = {toml}" for key, value in content.items() if (toml := _toml(value)) is not None)
    try:
        manifest, _ = parse_manifest(section(text), tags=TAGS)
    except InvalidPackageError:
        return
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def _toml(value: object) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return f'"{value}"'
        case list():
            return "[" + ", ".join(toml for item in value if (toml := _toml(item)) is not None) + "]"
        case dict():
            items = ((key, _toml(item)) for key, item in value.items())
            return "{" + ", ".join(f"{key} = {item}" for key, item in items if item is not None) + "}"
    return None
