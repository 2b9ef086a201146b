"""Tokens: who holds one, and what one without gets."""

from __future__ import annotations

import string
import sys

import pytest

from edgepose.engines.errors import ConfigError
from edgepose.runtime.daemon.auth import Authority, AuthSettings, TokenSettings, hash_of_token, may, new_token
from edgepose.runtime.daemon.config import settings_from_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def authority(*lines: str) -> Authority:
    return Authority(AuthSettings.parse(tomllib.loads("\n".join(lines))["auth"], "test"))


def test_a_new_token_is_let_in_by_the_lines_that_come_with_it_and_is_not_in_them() -> None:
    token, lines = new_token("kitchen", "read")
    assert token.startswith("epd_") and len(token) == 47
    assert token not in lines and token.removeprefix("epd_") not in lines
    holder = authority(lines).holder(token)
    assert holder is not None and (holder.name, holder.role) == ("kitchen", "read")
    assert settings_from_toml('bundle = "x.pose"\n' + lines, "t", environment={}).auth.tokens == (holder,)


def test_each_holder_is_told_from_the_others_whatever_the_order() -> None:
    made = [new_token(name, "admin" if name == "b" else "read") for name in "abc"]
    gate = authority(*(lines for _, lines in made))
    holders = [gate.holder(token) for token, _ in made]
    assert [holder.name for holder in holders if holder] == ["a", "b", "c"]


def test_everything_else_is_nobodys_token() -> None:
    token, lines = new_token("a", "admin")
    gate = authority(lines)
    one_off = [token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :] for i in range(len(token))]
    for wrong in ["", "epd_", token[:-1], token + "x", token.upper(), f" {token}", "\ud800", "é" * 1000, *one_off, lines]:
        assert gate.holder(wrong) is None, wrong


def test_without_tokens_nobody_has_to_show_one_and_nobody_holds_one() -> None:
    gate = Authority(AuthSettings())
    assert gate.is_open and gate.holder("epd_x") is None
    assert not authority(new_token("a", "read")[1]).is_open


def test_admin_may_what_read_may_and_not_the_reverse() -> None:
    reader, admin = (TokenSettings(name="a", role=role, hash=hash_of_token("x")) for role in ("read", "admin"))
    assert [may(reader, "read"), may(reader, "admin"), may(admin, "read"), may(admin, "admin")] == [True, False, True, True]


def test_tokens_and_hashes_never_come_twice() -> None:
    tokens = {new_token("a", "read")[0] for _ in range(100)}
    assert len(tokens) == 100 and all(set(token) <= set(string.ascii_letters + string.digits + "_-") for token in tokens)
    assert hash_of_token("x") != hash_of_token("x"), "each with its own salt"


@pytest.mark.parametrize("name", ["", "a b", "../x", 'a"\nrole = "admin', "x" * 65])
def test_a_name_that_would_not_do_in_the_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="token: name: "):
        new_token(name, "read")


@pytest.mark.parametrize("hash_", ["", "epd_abc", "sha256:00:11", f"sha256:{'0' * 32}:{'1' * 64}\n", f"md5:{'0' * 32}:{'1' * 64}"])
def test_what_is_no_hash_is_refused_and_not_repeated(hash_: str) -> None:
    with pytest.raises(ConfigError, match=r"^t: auth.tokens.0.hash: String should match pattern '[^']*'$"):
        settings_from_toml(
            f"bundle = 'x'\n[[auth.tokens]]\nname = 'a'\nrole = 'read'\nhash = {hash_!r}".replace("\n'", "'"), "t", environment={}
        )
