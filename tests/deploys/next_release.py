"""The release after this one, made of a copy of this tree, so that both can run side by side."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic.script import ScriptDirectory

from deploy.local.stack import PROJECT

#: What a release consists of; the rest is for development.
_PACKAGES: Final = ("worker", "api_stub", "deploy")

#: A step that makes something outside and takes it away again.
_STEP: Final = '''"""Makes a trunk of its own."""

from __future__ import annotations

from worker.domain.job import StepName
from worker.domain.values import E164, MediaEncryption, SipTransport
from worker.livekit import OutboundTrunk
from worker.steps._core import Context, Done, Step

NAME = "{name}"


def number(ctx: Context) -> E164:
    """A number that nobody has, by which it is listed."""
    return E164(f"+1999{{ctx.spec.phone_number[-7:]}}")


def run(ctx: Context) -> Done:
    """Makes it."""
    trunk = OutboundTrunk(
        name=f"{{ctx.tag.import_id}}:{{NAME}}",
        number=number(ctx),
        address="sip.example.com",
        login=None,
        transport=SipTransport.AUTO,
        encryption=MediaEncryption.ALLOW,
    )
    ctx.record({{NAME: ctx.livekit.ensure_outbound_trunk(trunk, ctx.objects.get(NAME))}})
    return Done()


def undo(ctx: Context) -> None:
    """Deletes it."""
    name = f"{{ctx.tag.import_id}}:{{NAME}}"
    ctx.livekit.remove_outbound_trunk(name, number(ctx), ctx.objects.get(NAME))


STEP = Step(name=StepName.{constant}, run=run, undo=undo)
'''

#: Two, as the template has it: an index that is built concurrently is a migration by itself.
_MIGRATIONS: Final = {
    "next_column": '''"""A column; on the way down, also a renamed step's former name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "next_column"
down_revision = "{before}"
branch_labels = None
depends_on = None

RENAMED = {renamed}


def upgrade() -> None:
    op.add_column("import_jobs", sa.Column("ticket", sa.Text(), nullable=True))


def downgrade() -> None:
    for former, now in RENAMED.items():
        for table, column in (
            ("job_steps", "step"),
            *(("import_jobs", name) for name in ("step", "error_step", "undo_error_step")),
        ):
            change = f"UPDATE {{table}} SET {{column}} = '{{former}}'"
            op.execute(f"{{change}} WHERE {{column}} = '{{now}}'")
    op.drop_column("import_jobs", "ticket")
''',
    "next_index": '''"""An index."""

from __future__ import annotations

from alembic import op

revision = "next_index"
down_revision = "next_column"
branch_labels = None
depends_on = None

NAME = "ix_import_jobs_ticket"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(NAME, "import_jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index(NAME, "import_jobs", ["ticket"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index(NAME, "import_jobs")
''',
}


class NextRelease:
    """A copy of this tree that is changed as a developer would change it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._renamed: dict[str, str] = {}
        for package in _PACKAGES:
            shutil.copytree(
                PROJECT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
            )

    def add_step(self, name: str, *, before: str | None) -> None:
        """Adds a step to the pipeline, before another one or at the end."""
        (self.root / "worker/steps" / f"{name}.py").write_text(
            _STEP.format(name=name, constant=name.upper())
        )
        line, value = r"(?=\)\nassert)", r"(?=\n\n#: Former name of a step)"
        if before is not None:
            line, value = rf"(?=    {before}\.STEP,)", rf"(?=    {before.upper()} = )"
        self._edit(
            "worker/pipeline.py",
            lambda text: _insert(text, line, f"    {name}.STEP,\n").replace(
                "from worker.steps import (\n", f"from worker.steps import (\n    {name},\n"
            ),
        )
        self._edit(
            "worker/domain/job.py",
            lambda text: _insert(text, value, f'    {name.upper()} = "{name}"\n'),
        )

    def rename_step(self, former: str, name: str) -> None:
        """Renames a step: file, enum value, cursor, task; the former name is understood."""
        self._renamed[former] = name
        (self.root / f"worker/steps/{former}.py").rename(self.root / f"worker/steps/{name}.py")
        for path in self.root.rglob("*.py"):
            text = path.read_text()
            # The adapter's own method is called after the rule, not after the step.
            found = re.sub(rf"\b{former}(?=\b(?!\())", name, text)
            found = re.sub(rf"\b{former.upper()}\b", name.upper(), found)
            if found != text:
                path.write_text(found)
        self._edit(
            "worker/domain/job.py",
            lambda text: _insert(
                text,
                r"(?<=FORMER_NAMES: Final\[Mapping\[str, StepName\]\] = \{)",
                f'"{former}": StepName.{name.upper()}, ',
            ),
        )

    def add_migrations(self) -> None:
        """Adds migrations after the newest one."""
        folder = self.root / "worker/migrations"
        head = ScriptDirectory(str(folder)).get_current_head()
        for name, text in _MIGRATIONS.items():
            code = text.format(before=head, renamed=self._renamed)
            (folder / f"versions/2099-01-01-0000_{name}.py").write_text(code)

    def _edit(self, path: str, change: Callable[[str], str]) -> None:
        file = self.root / path
        before = file.read_text()
        after = change(before)
        assert after != before, f"{path} has changed its shape: nothing was edited"
        file.write_text(after)


def _insert(text: str, pattern: str, new: str) -> str:
    """Inserts after the only match of a pattern."""
    found = list(re.finditer(pattern, text))
    assert len(found) == 1, (pattern, len(found))
    return text[: found[0].end()] + new + text[found[0].end() :]
