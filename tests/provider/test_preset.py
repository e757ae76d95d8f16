import json
from decimal import Decimal

import pytest

from requestor_sdk.model.errors import UsageError
from requestor_sdk.provider.preset import EXAMPLE, make_preset, read_preset

LEAST = {"name": "amber"}


def test_the_example_is_a_preset(tmp_path):
    file = tmp_path / "example.toml"
    file.write_text(EXAMPLE)
    preset = read_preset(file)
    assert (preset.config.name, preset.config.subnet) == ("my-provider", "public")
    assert (preset.config.max_activities, preset.config.open_offers) == (4, 4)
    assert preset.config.pricing.coeffs == (Decimal("0.000003"), Decimal("0.00001"))
    assert preset.config.serves_others
    assert not preset.reach_private_urls
    assert preset.config.public_only


def test_a_preset_may_be_json(tmp_path):
    file = tmp_path / "preset.json"
    pricing = {"duration": "0.1", "cpu": 0.2, "fixed": 3}
    platforms = ["erc20-hoodi-tglm", "erc20-polygon-glm"]
    file.write_text(json.dumps({**LEAST, "pricing": pricing, "payment_platforms": platforms}))
    preset = read_preset(file, subnet="mine")
    assert preset.config.subnet == "mine"
    assert preset.config.pricing.coeffs == (Decimal("0.1"), Decimal("0.2"))
    assert preset.config.pricing.fixed == 3
    assert preset.payment_platforms == tuple(platforms)


def test_a_name_is_enough():
    config = make_preset(LEAST).config
    assert (config.runtime, config.max_activities, config.open_offers) == ("vm", 32, 8)
    assert make_preset({**LEAST, "max_agreements": 3}).config.open_offers == 3
    assert "golem.inf.cpu.architecture" in config.offer({}).properties


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("name", None, "name: this field must be there"),
        ("name", "", "name: a word"),
        ("name", 5, "name: a word"),
        ("subnet", "a b", "subnet: a word"),
        ("memory_gib", 0, "memory_gib: a number above zero"),
        ("memory_gib", "much", "memory_gib: a number above zero"),
        ("memory_gib", True, "memory_gib"),
        ("memory_gib", float("nan"), "memory_gib"),
        ("cpu_threads", 1.5, "cpu_threads: a whole number"),
        ("max_agreements", 0, "max_agreements: a whole number"),
        ("offers", 10**6, "offers: a whole number"),
        ("capabilities", "inet", "capabilities: a list"),
        ("capabilities", [1], "capabilities: 1 is none"),
        ("payment_platforms", ["glm"], "payment_platforms: 'glm' is none"),
        ("requestors", ["0x12"], "requestors: '0x12' is none"),
        ("reach_private_urls", "yes", "reach_private_urls: true or false"),
        ("host_network", 1, "host_network: true or false"),
        ("pricing", [], "pricing: a table"),
        ("pricing", {"durations": 1}, "pricing: there is no field 'durations'; did you mean"),
        ("pricing", {"cpu": -1}, "pricing.cpu"),
        ("pricing", {"cpu": []}, "pricing.cpu: a number"),
        ("pricing", {"cpu": "cheap"}, "pricing.cpu"),
        ("max_agreement", 5, "there is no field 'max_agreement'; did you mean 'max_agreements'"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(field, value, why):
    given = {key: one for key, one in {**LEAST, field: value}.items() if one is not None}
    with pytest.raises(UsageError) as caught:
        make_preset(given)
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.toml", "name =", "a.toml"),
        ("a.json", "{", "a.json"),
        ("a.json", "[]", "a table of fields"),
        ("a.toml", "nam = 'x'", "did you mean 'name'"),
    ],
)
def test_a_file_that_is_none_is_refused_with_where_an_example_is(tmp_path, name, text, why):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UsageError, match="--print-preset") as caught:
        read_preset(file)
    assert why in str(caught.value)


def test_a_file_that_is_not_there_is_told_of(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_preset(tmp_path / "none.toml")
