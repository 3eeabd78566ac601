from __future__ import annotations

import pytest

from tests.contract.providers.case import NumberExample
from tests.contract.providers.cases import each
from tests.contract.providers.world import World
from worker.domain.values import E164
from worker.providers import Provider


@pytest.mark.parametrize(("case", "example"), each("numbers"), indirect=["case"])
def test_numbers_are_told_apart(world: World, provider: Provider, example: NumberExample) -> None:
    number = E164(example.number)

    if example.expected is None:
        found = provider.find_number(number, example.number_id)
        assert found.e164 == number
        assert found.voice
        assert found.sms is example.sms
        assert found.country == number.region
        assert example.number_id in (None, found.id)
        assert provider.find_number(number, found.id) == found
        assert provider.read_routing(found.id) == found.routing
    else:
        with pytest.raises(example.expected) as caught:
            provider.find_number(number, example.number_id)
        assert type(caught.value) is example.expected
        assert example.number not in str(caught.value)
    assert not world.journal(write=True)
