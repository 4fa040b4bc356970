"""What a message offers for a name that is not known."""

from hypothesis import given
from hypothesis import strategies as st

from synther.suggestions import close_names, did_you_mean

NAMES = ["batch_size", "Trainer", "hopper-demo-v0", "hopper-medium-v2", "lr"]


def test_case_and_the_joints_of_words_do_not_matter() -> None:
    assert close_names("Batch-Size", NAMES) == ["batch_size"]
    assert close_names("trainer", NAMES) == ["Trainer"]
    assert close_names("hopper_demo_v0", NAMES, most=2) == ["hopper-demo-v0", "hopper-medium-v2"]


def test_a_close_name_is_offered_as_it_is_typed() -> None:
    assert did_you_mean("batchsize", NAMES, "--") == "; did you mean --batch_size?"
    offered = did_you_mean("hopper-demo", NAMES, most=2)
    assert offered == "; did you mean hopper-demo-v0 or hopper-medium-v2?"


def test_without_a_close_name_a_short_list_is_given_whole() -> None:
    everything = f"; expected one of {', '.join(NAMES)}"
    assert did_you_mean("zzz", NAMES, listed=len(NAMES)) == everything
    assert did_you_mean("zzz", NAMES, listed=len(NAMES) - 1) == ""
    assert did_you_mean("zzz", []) == ""


@given(st.lists(st.text(min_size=1), min_size=1, unique_by=lambda each: each.lower()), st.data())
def test_a_known_name_is_its_own_nearest(known: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(known))
    spelling = name.lower().replace("-", "_")
    alike = [each for each in known if each.lower().replace("-", "_") == spelling]
    assert close_names(name, known)[0] in alike
