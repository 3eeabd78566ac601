"""Key rotation reaches every sealed column and can be repeated."""

from __future__ import annotations

from cryptography.fernet import Fernet
from pydantic import SecretStr

from tests.integration.db.conftest import Bench
from worker.db.vault import Vault
from worker.domain.job import StepName
from worker.settings import Settings


def test_every_sealed_value_opens_with_the_new_key_alone(bench: Bench, settings: Settings) -> None:
    job_id = bench.submit()
    claim = bench.begin(job_id, StepName.VALIDATE_CREDENTIALS)
    bench.claims.finish_step(claim, output={}, sealed=bench.vault.seal({"routing": {}}))
    bench.sql("UPDATE organizations SET sealed = :sealed", sealed=bench.vault.seal({"current": ""}))
    bench.sql("UPDATE credentials SET replaced_sealed = :sealed", sealed=bench.vault.seal({}))
    bench.sql(
        "INSERT INTO number_events (id, organization_id, phone_number_id, kind, key, sealed) "
        "SELECT id, organization_id, id, 'sms', 'k', :sealed FROM phone_numbers",
        sealed=bench.vault.seal({"text": ""}),
    )
    bench.sql(
        "INSERT INTO batches (id, organization_id, sealed) SELECT id, id, :sealed "
        "FROM organizations",
        sealed=bench.vault.seal({"fingerprint": ""}),
    )
    new = SecretStr(Fernet.generate_key().decode())
    both = Vault((new, *settings.vault_keys))
    assert sum(bench.directory.reseal_all(both.reseal)) == 7
    assert sum(bench.directory.reseal_all(both.reseal)) == 7
    for table, column in bench.sql(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type = 'bytea' AND column_name LIKE '%sealed'"
    ):
        found = bench.sql(f"SELECT {column} FROM {table}")  # noqa: S608 -- our own names
        assert found, f"nothing in {table}.{column}: this test would not notice it"
        for (sealed,) in found:
            assert Vault((new,)).open(bytes(sealed)) is not None
