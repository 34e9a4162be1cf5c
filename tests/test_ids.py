"""Ids in the two forms that clients have them in."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from t3d_server.ids import canonical, is_id, new_id, tagged_id, version_1

IDS = st.one_of(
    st.from_regex(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", fullmatch=True),
    st.builds(new_id),
    st.text("0123456789abcdef", min_size=12, max_size=12).map(tagged_id),
)
TEXTS = st.one_of(IDS, IDS.map(version_1), IDS.map(str.upper), st.uuids().map(str), st.text())


@given(IDS)
def test_an_id_comes_back_from_the_form_of_version_1(identifier: str) -> None:
    assert canonical(version_1(identifier)) == identifier


@given(IDS)
def test_the_form_of_version_1_is_a_uuid_of_that_version(identifier: str) -> None:
    parsed = uuid.UUID(version_1(identifier))
    assert (parsed.version, parsed.variant) == (1, uuid.RFC_4122)


@given(IDS, st.sampled_from([str, str.upper, str.title]), st.booleans())
def test_the_canonical_form_is_an_id_however_it_was_sent(identifier: str, case: type[str], of_v0: bool) -> None:
    sent = case(version_1(identifier) if of_v0 else identifier)
    assert is_id(canonical(sent))
    assert canonical(sent) == identifier


@given(TEXTS)
def test_each_conversion_changes_nothing_the_second_time(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)
    assert version_1(version_1(text)) == version_1(text)


@given(st.one_of(st.text(), st.uuids(version=4).map(str), st.uuids(version=5).map(str)))
def test_what_is_no_id_is_left_as_it_is(text: str) -> None:
    assert canonical(text) == text
