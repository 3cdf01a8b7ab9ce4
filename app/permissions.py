"""Who may do what: roles, actions and the table between them. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from models.fields import InstanceRole, ProjectRole
from models.project import ProjectAccess
from models.user import UserRecord

ROLES: tuple[ProjectRole, ...] = ("viewer", "commenter", "editor", "publisher", "owner")
"""Weakest first; each contains the ones before it."""

INSTANCE_ROLES: frozenset[InstanceRole] = frozenset({"admin", "service", "editor"})


class Action(enum.Enum):
    """What a request or a subscription wants to do. The value is the name that `me.can` shows."""

    # In one project:
    VIEW = "view"
    COMMENT = "comment"
    EDIT = "edit"
    PUBLISH = "publish"
    MANAGE = "manage"
    # On the whole server:
    ANYONE = "anyone"
    SIGNED_IN = "signed_in"
    NOTIFY = "notify"
    ADMINISTER = "administer"


NEEDED_ROLE: dict[Action, ProjectRole] = {
    Action.VIEW: "viewer",
    Action.COMMENT: "commenter",
    Action.EDIT: "editor",
    Action.PUBLISH: "publisher",
    Action.MANAGE: "owner",
}
"""The weakest project role that may do it."""

NEEDED_INSTANCE_ROLES: dict[Action, frozenset[InstanceRole]] = {
    Action.SIGNED_IN: INSTANCE_ROLES,
    Action.NOTIFY: frozenset({"service", "admin"}),
    Action.ADMINISTER: frozenset({"admin"}),
}
"""The instance roles any of which may do it. `ANYONE` is in neither table: it needs no identity."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The caller, as the credentials of this one request or socket say."""

    user_id: str
    name: str
    email: str | None = None
    roles: frozenset[InstanceRole] = frozenset({"editor"})
    groups: frozenset[str] = frozenset()
    expires_at: float
    """Unix time at which the credentials end."""
    session_id: str | None = None
    """The stored session behind a cookie; None for a bearer token."""
    issued_at: float = 0.0
    """Unix time of the token or session; a sign-out everywhere ends all that are older."""

    @property
    def sees_everything(self) -> bool:
        """Whether private projects are open to this caller without being a member."""
        return not self.roles.isdisjoint({"admin", "service"})


def identity_of(user: UserRecord) -> Identity:
    """A user as if signed in now, by what their newest token said."""
    return Identity(user_id=user.user_id, name=user.name, roles=user.roles, groups=user.groups, expires_at=math.inf)


def rank(role: ProjectRole | None) -> int:
    """A number to compare roles by; no role is below every role."""
    return -1 if role is None else ROLES.index(role)


def project_role(identity: Identity, access: ProjectAccess) -> ProjectRole | None:
    """The highest role that any grant gives, or None: then the project does not exist for this caller."""
    best: ProjectRole | None = None
    if "admin" in identity.roles:
        return "owner"
    if "service" in identity.roles:
        best = "publisher"
    elif access.visibility == "public":
        best = "editor"
    for member in access.members:
        kind, _, name = member.principal.partition(":")
        named = name == identity.user_id if kind == "user" else name in identity.groups
        if named and rank(member.role) > rank(best):
            best = member.role
    return best


def may(role: ProjectRole | None, action: Action) -> bool:
    """Whether a project role is enough for an action in that project."""
    return rank(role) >= rank(NEEDED_ROLE[action])


def may_on_server(identity: Identity | None, action: Action) -> bool:
    """Whether a caller (None: nobody signed in) may do something that belongs to no project."""
    if action is Action.ANYONE:
        return True
    return identity is not None and not identity.roles.isdisjoint(NEEDED_INSTANCE_ROLES[action])


def allowed_actions(role: ProjectRole | None) -> list[str]:
    """What `me.can` lists for a role."""
    return [action.value for action in NEEDED_ROLE if may(role, action)]


def split_roles(claimed: Iterable[str]) -> tuple[frozenset[InstanceRole], frozenset[str]]:
    """The `roles` of a token as instance roles (`editor` where none is given) and groups."""
    return _split(frozenset(claimed))


@lru_cache(maxsize=1024)
def _split(names: frozenset[str]) -> tuple[frozenset[InstanceRole], frozenset[str]]:
    """Remembered so that ten thousand connections share the sets of the few combinations that there are."""
    instance = frozenset(role for role in INSTANCE_ROLES if role in names)
    return instance or frozenset({"editor"}), names - INSTANCE_ROLES
