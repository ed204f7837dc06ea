"""Calendars: secret addresses, and the months of a zone."""

import hashlib
import secrets
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from sqlmodel import Session, select

from storage.events.moments import instant
from storage.events.tables import Attendee


def renew(session: Session, attendee: Attendee) -> str:
    """A new secret for a person's calendar; the one before does not work any more. Only its digest is stored."""
    secret = secrets.token_urlsafe(32)
    attendee.feed = _digest(secret)
    session.add(attendee)
    session.flush()
    return secret


def owner(session: Session, secret: str) -> int | None:
    """Whose calendar this is. Digests are compared, so that the time it takes tells nothing of a secret."""
    return session.exec(select(Attendee.person_id).where(Attendee.feed == _digest(secret))).first()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def month(now: datetime, zone: ZoneInfo, ahead: int) -> tuple[datetime, datetime]:
    """The beginnings (UTC) of the month that lies so many ahead, and of the one after it."""
    local = now.astimezone(zone)
    months = local.year * 12 + local.month - 1 + ahead
    first, after = (date(number // 12, number % 12 + 1, 1) for number in (months, months + 1))
    return instant(datetime.combine(first, time()), zone), instant(datetime.combine(after, time()), zone)
