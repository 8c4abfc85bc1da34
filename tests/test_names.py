"""One name in any of Unicode's normal forms is one name."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swin_transformer_pytorch.models.config import model_names
from swin_transformer_pytorch.names import by_name, composed, did_you_mean

FORMS = ("NFC", "NFD")
# Letters of which many have two forms; Hangul is put together from up to three.
names = st.text(st.sampled_from("aeéüñßΐ한글ệ\u0301\u0323\u0308") | st.characters(codec="utf-8"), max_size=8)


@given(names, st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_a_name_is_found_in_whichever_form_it_is_known(name: str, form: str, other: str) -> None:
    known, asked = unicodedata.normalize(form, name), unicodedata.normalize(other, name)
    assert composed(known) == composed(asked)
    assert by_name({f"x{known}": 0, known: 1, f"{known}y": 2})(asked) == 1


@given(st.lists(names, unique=True, max_size=6), names)
def test_the_exact_name_comes_first_and_a_stranger_is_none(known: list[str], asked: str) -> None:
    found = by_name({name: name for name in known})
    assert [found(name) for name in known] == known
    assert (found(asked) is None) == (composed(asked) not in map(composed, known))


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("swin_tiny", "swin_tiny_patch4_window7_224"),
        ("swin_tini", "swin_tiny_patch4_window7_224"),
        ("swintiny_patch4_window7_224", "swin_tiny_patch4_window7_224"),
        ("swin-tiny-patch4-window7-224", "swin_tiny_patch4_window7_224"),
        ("swinv2_tiny_window8_256", "swinv2_tiny_patch4_window8_256"),
        ("mask_rcnn_swin_huge", "mask_rcnn_swin_"),
        ("upernet", "upernet_swin"),
        *((far, None) for far in ("resnet50", "vit_base_patch16_224", "deit_tiny_patch16_224", "x" * 10_000, "é", "")),
    ],
)
def test_near_names_are_suggested_and_far_ones_are_not(name: str, first: str | None) -> None:
    question = did_you_mean(name, model_names())
    assert question.startswith(f"did you mean {first}") if first else question == ""
