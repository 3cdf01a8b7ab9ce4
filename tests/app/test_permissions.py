"""Every role and every action, with the expected answer."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from app.permissions import (
    NEEDED_INSTANCE_ROLES,
    NEEDED_ROLE,
    ROLES,
    Action,
    Identity,
    allowed_actions,
    may,
    may_on_server,
    project_role,
    rank,
    split_roles,
)
from models.fields import InstanceRole, ProjectRole
from models.project import Member, ProjectAccess, Visibility

PROJECT_TABLE = {
    # action:        viewer commenter editor publisher owner
    Action.VIEW: "     yes     yes     yes    yes     yes",
    Action.COMMENT: "  no      yes     yes    yes     yes",
    Action.EDIT: "     no      no      yes    yes     yes",
    Action.PUBLISH: "  no      no      no     yes     yes",
    Action.MANAGE: "   no      no      no     no      yes",
}
SERVER_TABLE = {
    # action:           nobody editor service admin
    Action.ANYONE: "     yes    yes    yes    yes",
    Action.SIGNED_IN: "  no     yes    yes    yes",
    Action.NOTIFY: "     no     no     yes    yes",
    Action.ADMINISTER: " no     no     no     yes",
}


def who(*roles: InstanceRole, groups: tuple[str, ...] = (), user_id: str = "alice") -> Identity:
    return Identity(
        user_id=user_id,
        name="Alice",
        roles=frozenset(roles or ("editor",)),
        groups=frozenset(groups),
        expires_at=0.0,
    )


def project(visibility: Visibility, **members: ProjectRole) -> ProjectAccess:
    """Members by ``user_alice`` and ``role_desk``."""
    granted = (Member(principal=name.replace("_", ":", 1), role=role) for name, role in members.items())
    return ProjectAccess(visibility=visibility, members=tuple(granted))


def test_the_tables_name_every_role_and_action() -> None:
    assert set(PROJECT_TABLE) == set(NEEDED_ROLE)
    assert set(SERVER_TABLE) == set(NEEDED_INSTANCE_ROLES) | {Action.ANYONE}
    assert set(PROJECT_TABLE) | set(SERVER_TABLE) == set(Action)
    assert set(ROLES) == set(get_args(ProjectRole))


@pytest.mark.parametrize("action", PROJECT_TABLE)
def test_a_project_role_may_do_what_the_table_says(action: Action) -> None:
    for role, answer in zip(ROLES, PROJECT_TABLE[action].split(), strict=True):
        assert may(role, action) == (answer == "yes"), role
        assert (action.value in allowed_actions(role)) == (answer == "yes"), role
    assert not may(None, action)
    assert allowed_actions(None) == []


@pytest.mark.parametrize("action", SERVER_TABLE)
def test_an_instance_role_may_do_what_the_table_says(action: Action) -> None:
    callers = [None, who("editor"), who("service"), who("admin")]
    for caller, answer in zip(callers, SERVER_TABLE[action].split(), strict=True):
        assert may_on_server(caller, action) == (answer == "yes"), caller


@pytest.mark.parametrize(
    ("roles", "groups", "access", "expected"),
    [
        (("editor",), (), project("public"), "editor"),
        (("editor",), (), project("private"), None),
        (("service",), (), project("public"), "publisher"),
        (("service",), (), project("private"), "publisher"),
        (("admin",), (), project("public"), "owner"),
        (("admin",), (), project("private"), "owner"),
        (("admin", "service"), (), project("private"), "owner"),
        (("editor",), (), project("private", user_alice="viewer"), "viewer"),
        (("editor",), (), project("private", user_bob="owner"), None),
        (("editor",), (), project("private", role_alice="owner"), None),
        (("editor",), ("desk",), project("private", role_desk="commenter"), "commenter"),
        (("editor",), ("desk",), project("private", user_desk="commenter"), None),
        (("editor",), ("art",), project("private", role_desk="commenter"), None),
        (("editor",), (), project("private", role_editor="owner"), None),
        (("editor",), (), project("public", user_alice="viewer"), "editor"),
        (("editor",), (), project("public", user_alice="publisher"), "publisher"),
        (("editor",), ("desk",), project("private", user_alice="viewer", role_desk="owner"), "owner"),
        (("editor",), ("desk",), project("private", user_alice="owner", role_desk="viewer"), "owner"),
        (("service",), (), project("private", user_alice="viewer"), "publisher"),
        (("service",), (), project("private", user_alice="owner"), "owner"),
        (("admin",), (), project("private", user_alice="viewer"), "owner"),
    ],
)
def test_the_highest_grant_wins(
    roles: tuple[InstanceRole, ...], groups: tuple[str, ...], access: ProjectAccess, expected: ProjectRole | None
) -> None:
    assert project_role(who(*roles, groups=groups), access) == expected


def test_more_grants_never_give_less() -> None:
    grants = [Member(principal=principal, role=role) for principal in ("user:alice", "role:desk") for role in ROLES]
    caller = who(groups=("desk",))
    for some in itertools.combinations(grants, 2):
        for visibility in get_args(Visibility):
            both = project_role(caller, ProjectAccess(visibility=visibility, members=some))
            for one in some:
                assert rank(both) >= rank(project_role(caller, ProjectAccess(visibility=visibility, members=(one,))))


def test_only_admins_and_services_see_everything() -> None:
    callers = (who("editor"), who("service"), who("admin"))
    assert [caller.sees_everything for caller in callers] == [False, True, True]


@pytest.mark.parametrize(
    ("claimed", "roles", "groups"),
    [
        ([], {"editor"}, set()),
        (["desk"], {"editor"}, {"desk"}),
        (["admin"], {"admin"}, set()),
        (["service", "desk", "desk"], {"service"}, {"desk"}),
        (["editor", "admin", "Admin"], {"editor", "admin"}, {"Admin"}),
    ],
)
def test_roles_of_a_token_are_instance_roles_or_groups(claimed: list[str], roles: set[str], groups: set[str]) -> None:
    assert split_roles(claimed) == (roles, groups)
