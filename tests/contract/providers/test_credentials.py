from __future__ import annotations

import pytest

from tests.contract.providers.case import CredentialExample, ProviderCase
from tests.contract.providers.cases import CASES, each
from tests.contract.providers.world import World
from worker.domain.values import RoutingMode
from worker.providers import PROVIDERS, Provider


@pytest.mark.parametrize(("case", "example"), each("credentials"), indirect=["case"])
def test_credentials_are_told_apart(world: World, example: CredentialExample) -> None:
    provider = world.provider(example.fields)

    if isinstance(example.expected, str):
        account = provider.verify_credentials(example.mode)
        assert account.credential_kind == example.expected
        assert (
            account.id
            == PROVIDERS[world.case.name]
            .credentials_model.model_validate(dict(example.fields))
            .account_ref
        )
        assert len(account.warnings) == len(example.warnings)
        for word, warning in zip(example.warnings, account.warnings, strict=True):
            assert word in warning
    else:
        with pytest.raises(example.expected) as caught:
            provider.verify_credentials(example.mode)
        assert type(caught.value) is example.expected
    assert not world.journal(write=True)


@pytest.mark.parametrize("mode", RoutingMode)
def test_a_mode_that_is_offered_can_be_verified(world: World, mode: RoutingMode) -> None:
    provider = world.provider()

    if mode in provider.modes:
        provider.verify_credentials(mode)
    else:
        assert world.case.no_trunk_because


def test_credentials_survive_the_vault(case: ProviderCase) -> None:
    model = PROVIDERS[case.name].credentials_model
    credentials = model.model_validate(dict(case.good))

    assert model.model_validate(credentials.reveal()) == credentials


def test_connecting_makes_no_call(world: World, provider: Provider) -> None:
    assert provider.name is world.case.name
    assert not world.journal()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_provider_proves_good_and_bad_credentials(case: ProviderCase) -> None:
    expected = [example.expected for example in case.credentials]

    assert any(isinstance(found, str) for found in expected)
    assert any(not isinstance(found, str) for found in expected)
