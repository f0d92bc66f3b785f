"""What a Python developer would write: FastAPI, SQLAlchemy and SQLite, one durable transaction a request.

uvicorn runs it, with a worker per core. The pragmas are the product's; every transaction is BEGIN IMMEDIATE.
"""

import os
import secrets
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, Field
from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, create_engine, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

NOBODY: Final = {"err": "用户不存在，或未登录。"}
SIGNUP_CREDIT: Final = int(os.environ["SIGNUP_CREDIT"])

engine = create_engine(f"sqlite:///{os.environ['DATA']}/credit.db", connect_args={"timeout": 5})


@event.listens_for(engine, "connect")
def _set_pragmas(connection: Any, _: object) -> None:
    connection.isolation_level = None  # sqlite3 begins no transaction by itself: _begin does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@event.listens_for(engine, "begin")
def _begin(connection: Any) -> None:
    # Reads alone need no write lock, and would queue for it.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))


class Table(DeclarativeBase):
    pass


class User(Table):
    __tablename__ = "user"
    __table_args__ = (CheckConstraint("credit >= 0"),)
    openid: Mapped[str] = mapped_column(primary_key=True)
    credit: Mapped[int]


class Login(Table):
    __tablename__ = "login"
    token: Mapped[str] = mapped_column(primary_key=True)
    openid: Mapped[str] = mapped_column(ForeignKey("user.openid"))
    session_key: Mapped[str]


class Entry(Table):
    """A grant, or a spend as a negative amount; the key makes it happen once."""

    __tablename__ = "entry"
    __table_args__ = (UniqueConstraint("openid", "key"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    openid: Mapped[str] = mapped_column(ForeignKey("user.openid"))
    amount: Mapped[int]
    reason: Mapped[str]
    key: Mapped[str]
    credit: Mapped[int]
    recorded_at: Mapped[int]


class LoginBody(BaseModel):
    code: str


class ChangeBody(BaseModel):
    amount: int = Field(ge=1, le=2**53 - 1)
    reason: str = Field(min_length=1, max_length=200)


def _reading() -> Iterator[Session]:
    with Session(engine.execution_options(begin="BEGIN")) as session:
        yield session


def _writing() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


Reading = Annotated[Session, Depends(_reading)]
Writing = Annotated[Session, Depends(_writing)]


def _authorized(authorization: Annotated[str, Header()] = "") -> None:
    if authorization != f"Bearer {os.environ['API_KEY']}":
        raise HTTPException(401, "unauthorized")


wechat = httpx.Client(base_url=os.environ["WECHAT_API"], timeout=5, trust_env=False)
app = FastAPI()


@app.post("/login")
def log_in(body: LoginBody, session: Writing) -> dict[str, str]:
    query = {
        "appid": os.environ["WECHAT_APPID"],
        "secret": os.environ["WECHAT_SECRET"],
        "js_code": body.code,
        "grant_type": "authorization_code",
    }
    answer = wechat.get("/sns/jscode2session", params=query).json()
    if "openid" not in answer:
        return {"err": "登录失败"}
    token = secrets.token_urlsafe(32)
    if session.get(User, answer["openid"]) is None:
        session.add(User(openid=answer["openid"], credit=SIGNUP_CREDIT))
        session.flush()  # before the row that refers to it
    session.add(Login(token=token, openid=answer["openid"], session_key=answer["session_key"]))
    session.commit()
    return {"token": token}


@app.get("/credit")
def credit(token: str, session: Reading) -> dict[str, int | str]:
    found = session.scalar(select(User.credit).join(Login).where(Login.token == token))
    return NOBODY if found is None else {"credit": found}  # type: ignore[return-value]


@app.post("/v1/accounts/{openid}/grants", status_code=201, dependencies=[Depends(_authorized)])
def grant(
    openid: str,
    body: ChangeBody,
    session: Writing,
    response: Response,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=255)],
) -> dict[str, int | str]:
    return _change(session, response, openid, body.amount, body.reason, idempotency_key)


@app.post("/v1/accounts/{openid}/spends", status_code=201, dependencies=[Depends(_authorized)])
def spend(
    openid: str,
    body: ChangeBody,
    session: Writing,
    response: Response,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=255)],
) -> dict[str, int | str]:
    return _change(session, response, openid, -body.amount, body.reason, idempotency_key)


def _change(
    session: Session, response: Response, openid: str, amount: int, reason: str, key: str
) -> dict[str, int | str]:
    seen = session.scalar(select(Entry).where(Entry.openid == openid, Entry.key == key))
    if seen is not None:
        if (seen.amount, seen.reason) != (amount, reason):
            raise HTTPException(422, "key-reused")
        response.headers["Idempotent-Replayed"] = "true"
        return {"id": seen.id, "credit": seen.credit}
    user = session.get(User, openid)
    if user is None:
        raise HTTPException(404, "account-not-found")
    user.credit += amount
    entry = Entry(
        openid=openid,
        amount=amount,
        reason=reason,
        key=key,
        credit=user.credit,
        recorded_at=time.time_ns() // 1000,
    )
    session.add(entry)
    try:
        session.flush()
    except IntegrityError:
        raise HTTPException(409, "insufficient-credit") from None
    answer: dict[str, int | str] = {"id": entry.id, "credit": entry.credit}
    session.commit()
    return answer
