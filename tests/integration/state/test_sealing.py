# SPDX-License-Identifier: Apache-2.0
"""What the database holds of secrets is sealed: it serves nobody without the key."""

import dataclasses
import itertools
import multiprocessing.pool
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from oslo_config import cfg

from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.audit import GENESIS, Act, AuditQuery
from cnsmo.model.errors import Conflict, Denied, InvalidRequest, NotFound
from cnsmo.model.messages import JoinAnswer, TokenRequest
from cnsmo.state import reset, schema, sealing, tokens
from cnsmo.state.audit_trail import AuditTrail
from cnsmo.state.engine import transaction
from cnsmo.state.secrets import digest
from cnsmo.state.store import Store
from cnsmo.state.tables import AUDIT, AUDIT_CHAINS, IDENTITIES, JOIN_TOKENS, VAULT
from cnsmo.state.vault import Vault
from cnsmo.trust import keys
from tests.integration.state import processes
from tests.joining import join_request, make_authority

ANNA = Act.of_operator("anna", "test")
_names = itertools.count()


@dataclasses.dataclass
class Shop:
    """A core with hosts, whose database is sealed."""

    core: Core
    token: str

    def join(self) -> JoinAnswer:
        return Membership(self.core).join(join_request(self.token, f"web{next(_names)}"))

    def knows(self, answer: JoinAnswer) -> bool:
        try:
            self.core.identities.authenticate(answer.id, answer.secret)
        except Denied:
            return False
        return True

    @property
    def engine(self) -> sa.Engine:
        return self.core.store.engine

    @property
    def vault(self) -> Vault:
        return self.core.vault

    def writes(self, *statements: sa.Executable) -> None:
        """As somebody who has the database, but not the key."""
        with transaction(self.engine) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture
def shop(bare: sa.Engine, conf: cfg.ConfigOpts, database_url: str) -> Shop:
    schema.upgrade(bare)
    make_authority(conf)
    core = processes.make_core(database_url, conf.join.ca_directory)
    sealing.check(core.store.engine, core.vault)
    core.store.create("shop")
    request = TokenRequest(uses=1000)
    made = core.write("shop", ANNA, lambda writer: tokens.create(writer, request)).value
    return Shop(core, str(made.token))


def stored(shop: Shop) -> list[str]:
    """All digests and seals that the database holds."""
    return [value for _column, _ident, value in sealing._values(shop.engine)]


def test_no_digest_is_in_clear(shop: Shop) -> None:
    answer = shop.join()
    clear = {digest(answer.secret), digest(shop.token.partition(".")[2])}
    assert len(stored(shop)) == 5
    assert not [value for value in stored(shop) if value in clear or len(value) == 64]
    assert shop.knows(answer)


def test_who_writes_the_database_cannot_become_a_host(shop: Shop) -> None:
    """A digest in clear, and a sealed one of another host or of a token, prove nothing."""
    mine, other = shop.join(), shop.join()
    taken = sa.select(IDENTITIES.c.secret_hash).where(IDENTITIES.c.id == mine.id).scalar_subquery()
    with transaction(shop.engine) as connection:
        sealed = connection.scalar(sa.select(taken))
    victim = sa.update(IDENTITIES).where(IDENTITIES.c.id == other.id)
    impostor = other.model_copy(update={"secret": mine.secret})
    for forged in (digest(mine.secret), sealed):
        shop.writes(victim.values(secret_hash=forged))
        assert not shop.knows(impostor)
    assert shop.knows(mine)


def test_who_writes_the_database_cannot_make_a_token(shop: Shop) -> None:
    shop.writes(sa.update(JOIN_TOKENS).values(secret_hash=digest("guess")))
    shop.token = shop.token.partition(".")[0] + ".guess"
    with pytest.raises(Denied):
        shop.join()


def test_a_core_says_that_its_key_is_another_one_or_none(shop: Shop, tmp_path: Path) -> None:
    other = Vault(tmp_path / "other" / "secrets.json")
    with pytest.raises(NotFound, match="'cnsmo-manage secrets init' makes it"):
        sealing.check(shop.engine, other)
    other.create()
    with pytest.raises(InvalidRequest, match="is not the one that this database is sealed with"):
        sealing.check(shop.engine, other)
    sealing.check(shop.engine, Vault(shop.vault.path))


def test_a_database_from_before_is_sealed_as_a_whole(bare: sa.Engine, shop: Shop) -> None:
    answer = shop.join()
    name = {"nonce_hash": digest("n" * 32), "secret_hash": digest(answer.secret)}
    secret = digest(shop.token.partition(".")[2])
    shop.writes(
        sa.delete(VAULT),
        sa.update(IDENTITIES).values(**name),
        sa.update(JOIN_TOKENS).values(secret_hash=secret),
        sa.delete(AUDIT),
        sa.update(AUDIT_CHAINS).values(lines=0, head=GENESIS, seal=""),
    )
    unused = shop.vault.load().model_copy(update={"used": False})
    shop.vault.save(unused)
    sealing.check(shop.engine, shop.vault)
    assert not [value for value in stored(shop) if len(value) == 64]
    assert shop.knows(answer)
    assert shop.knows(shop.join())
    assert AuditTrail(shop.engine, shop.vault).verify("shop")[0].problems == ()


def test_a_database_that_lost_its_seals_is_not_believed(shop: Shop) -> None:
    shop.join()
    shop.writes(sa.delete(VAULT), sa.update(IDENTITIES).values(secret_hash=digest("guess")))
    with pytest.raises(InvalidRequest, match="this database is not sealed with it"):
        sealing.check(shop.engine, shop.vault)


def test_a_new_key_does_not_adopt_what_another_one_sealed(shop: Shop, tmp_path: Path) -> None:
    shop.writes(sa.delete(VAULT))
    other = Vault(tmp_path / "other" / "secrets.json")
    other.create()
    with pytest.raises(InvalidRequest, match="somebody changed it"):
        sealing.check(shop.engine, other)
    with transaction(shop.engine) as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(VAULT)) == 0


def test_a_rotation_seals_everything_anew_and_forgets_the_old_key(
    shop: Shop, tmp_path: Path
) -> None:
    answer, before = shop.join(), stored(shop)
    old = Vault(tmp_path / "old.json")
    shutil.copy(shop.vault.path, old.path)
    assert sealing.rotate(shop.engine, shop.vault) == len(before)
    assert sealing.count(shop.engine, shop.vault) == sealing.Count(len(before), 0, 0)
    assert sealing.count(shop.engine, old).foreign == len(before)
    assert shop.vault.load().former == ()
    assert shop.knows(answer)
    assert shop.knows(shop.join())
    assert AuditTrail(shop.engine, shop.vault).verify("shop")[0].problems == ()


def test_a_rotation_that_was_broken_off_is_carried_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [shop.join() for _ in range(3)]
    replace, left = sealing._replace, iter([True] * 4)

    def dies(*arguments: object) -> int:
        next(left)
        return replace(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "_replace", dies)
        with pytest.raises(StopIteration):
            sealing.rotate(shop.engine, shop.vault)
    assert sealing.count(shop.engine, shop.vault).current == 4
    assert len(shop.vault.load().former) == 1
    assert all(map(shop.knows, answers)), "cores open what either key sealed"
    assert sealing.rotate(shop.engine, shop.vault) == len(stored(shop)) - 4
    assert all(map(shop.knows, answers))


def test_cores_with_files_of_their_own_go_on_through_a_staged_rotation(
    shop: Shop, database_url: str, conf: cfg.ConfigOpts, tmp_path: Path
) -> None:
    """Another machine's core gets the file after each step, and not before."""
    away = tmp_path / "away"
    away.mkdir()
    shutil.copytree(conf.join.ca_directory, away / "ca")

    def copied() -> None:
        shutil.copy(shop.vault.path, away / "secrets.json")

    copied()
    other = Shop(processes.make_core(database_url, str(away / "ca")), shop.token)
    answers = [shop.join(), other.join()]
    for step in (
        lambda: sealing.stage(shop.vault),
        lambda: sealing.rotate(shop.engine, shop.vault, keep=True),
        lambda: sealing.rotate(shop.engine, shop.vault),
    ):
        step()
        answers += [shop.join(), other.join()]
        assert all(it.knows(answer) for it in (shop, other) for answer in answers[:-2])
        copied()
        assert all(it.knows(answer) for it in (shop, other) for answer in answers)
    assert sealing.count(shop.engine, shop.vault).foreign == 0


def test_a_second_stage_waits_for_the_rotation(shop: Shop) -> None:
    sealing.stage(shop.vault)
    with pytest.raises(InvalidRequest, match="the next key is there"):
        sealing.stage(shop.vault)
    sealing.rotate(shop.engine, shop.vault, keep=True)
    with pytest.raises(InvalidRequest, match="a rotation is under way"):
        sealing.stage(shop.vault)


def test_what_nobody_of_us_sealed_keeps_the_old_key(shop: Shop) -> None:
    shop.join()
    shop.writes(sa.update(IDENTITIES).values(secret_hash="forged"))
    with pytest.raises(InvalidRequest, match="1 values are sealed by no key"):
        sealing.rotate(shop.engine, shop.vault)
    assert len(shop.vault.load().former) == 1


def test_hosts_join_while_the_key_is_rotated(
    shop: Shop, database_url: str, conf: cfg.ConfigOpts, rivals: multiprocessing.pool.Pool
) -> None:
    joining = rivals.starmap_async(
        processes.join_and_return,
        [
            (database_url, conf.join.ca_directory, shop.token, [f"p{who}n{it}" for it in range(15)])
            for who in range(2)
        ],
        chunksize=1,
    )
    rotations = 0
    while not joining.ready() or not rotations:
        sealing.rotate(shop.engine, shop.vault)
        rotations += 1
    answers = [JoinAnswer.model_validate_json(text) for found in joining.get() for text in found]
    assert len(answers) == 30
    assert all(map(shop.knows, answers))
    assert AuditTrail(shop.engine, shop.vault).verify("shop")[0].problems == ()


# when the key is lost


def test_after_the_loss_of_the_key_all_goes_on_and_nobody_is_believed(shop: Shop) -> None:
    key, nonce = keys.new_key(), "n" * 32
    before = joins(shop, key, nonce)
    revision = shop.core.store.deployment("shop").revision
    shop.vault.path.unlink()
    with pytest.raises(NotFound, match="secrets reset"):
        sealing.check(shop.engine, Vault(shop.vault.path))
    lost = reset.reset(Store(shop.engine, Vault(shop.vault.path)), ANNA)
    assert (lost.hosts, lost.tokens, lost.deployments) == (1, 1, ("shop",))
    sealing.check(shop.engine, Vault(shop.vault.path))
    assert not shop.knows(before)
    with pytest.raises(Denied):
        shop.join()
    assert sealing.count(shop.engine, shop.vault).foreign == 0
    assert shop.core.store.deployment("shop").revision == revision
    assert [it.kind for it in shop.core.trail.page("shop", AuditQuery()).lines].count(
        "secrets"
    ) == 1
    request = TokenRequest(uses=1)
    made = shop.core.write("shop", ANNA, lambda writer: tokens.create(writer, request)).value
    shop.token = str(made.token)
    again = joins(shop, key, "m" * 32)
    assert (again.id, shop.knows(again)) == (before.id, True)


def joins(shop: Shop, key: ec.EllipticCurvePrivateKey, nonce: str) -> JoinAnswer:
    return Membership(shop.core).join(join_request(shop.token, "web", key=key, nonce=nonce))


def test_a_key_that_is_there_is_not_reset(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="holds a key"):
        reset.reset(shop.core.store, ANNA)
    assert shop.knows(shop.join())
