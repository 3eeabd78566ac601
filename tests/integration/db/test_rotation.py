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
    new = SecretStr(Fernet.generate_key().decode())
    both = Vault((new, *settings.vault_keys))
    assert sum(bench.directory.reseal_all(both.reseal)) == 3
    assert sum(bench.directory.reseal_all(both.reseal)) == 3
    for table in ("credentials", "import_jobs", "job_steps"):
        for (sealed,) in bench.sql(f"SELECT sealed FROM {table}"):  # noqa: S608 -- our own names
            assert Vault((new,)).open(bytes(sealed))
