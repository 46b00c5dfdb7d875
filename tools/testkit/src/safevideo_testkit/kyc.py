"""People who use the KYC API: performers who submit a request, and reviewers who decide."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import FormData
from cryptography.fernet import Fernet
from PIL import Image

from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.sessions import SSO_DB, NewSession, SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.store import Identity
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Answer, Api, Json

JWT_SECRET = "a secret of this test, long enough"
SUBMISSION: Json = {
    "firstName": "Ada",
    "lastName": "Lovelace",
    "birthDate": "1990-05-17",
    "nationality": "GB",
    "address": {"street": "12 St James's Square", "city": "London", "postalCode": "SW1Y 4JH", "country": "GB"},
    "documentType": "passport",
    "documentNumber": "AB 123456",
    "documentExpiryDate": "2031-05-17",
}
REQUIRED = {"idFront": "passport", "selfie": "selfie", "proofOfAddress": "proof_of_address"}


def picture(color: str = "red") -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (32, 24), color).save(output, "PNG")
    return output.getvalue()


@dataclass(slots=True)
class KycClient:
    """Somebody who calls the API with the headers of a credential."""

    site: Api
    headers: dict[str, str]

    async def post(self, path: str, body: object = None) -> Answer:
        url = f"{self.site.base_url}/api/v1/kyc/{path}"
        async with self.site.session.post(url, headers=self.headers, json=body) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str) -> Answer:
        return await self.site.get(f"/api/v1/kyc/{path}", self.headers)

    async def submit(self, **changes: object) -> Answer:
        return await self.post("submit", {**SUBMISSION, **changes})

    async def submitted(self) -> int:
        """Submit a request and return its id. While the site is too busy to read the session, ask again."""
        answer = await self.submit()

        async def is_answered() -> bool:
            nonlocal answer
            if answer.status == 503:
                answer = await self.submit()
            return answer.status != 503

        await eventually(is_answered)
        assert answer.status == 201, answer.body
        request_id: int = answer.json["data"]["requestId"]
        return request_id

    async def upload(
        self, request_id: int, field: str = "idFront", content: bytes | None = None, **fields: str
    ) -> Answer:
        form = FormData()
        for name, value in {"documentType": REQUIRED.get(field, "passport"), **fields}.items():
            form.add_field(name, value)
        file = io.BytesIO(picture() if content is None else content)
        form.add_field(field, file, filename="a.png", content_type="image/png")
        url = f"{self.site.base_url}/api/v1/kyc/{request_id}/documents"
        async with self.site.session.post(url, headers=self.headers, data=form) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def upload_all(self, request_id: int) -> None:
        for field in REQUIRED:
            answer = await self.upload(request_id, field)
            assert answer.status == 201, answer.body

    async def status(self, request_id: int) -> str:
        status: str = (await self.get(f"{request_id}/status")).json["data"]["status"]
        return status


def kyc_settings(folder: Path) -> dict[str, object]:
    """Return the settings of a gateway and a worker that store documents in `folder`, and of their sign-in.

    The rate limits let a test ask for a status until it changes.
    """
    key = Fernet.generate_key().decode()
    limits = {"rate_limit_kyc": "1000/60", "rate_limit_upload": "1000/60", "rate_limit_general": "100000/60"}
    return {"jwt_secret": JWT_SECRET, "encryption_key": key, "upload_dir": folder, "redis_timeout_seconds": 2} | limits


async def sign_in(site: Api, database: Database, redis_url: str, sharegram_id: str = "sg_ada") -> KycClient:
    """Make an account of a performer and a session of it."""
    now, issuer = datetime.now(UTC), "https://sharegram.example"
    account = await UserAccounts(database, utc_now).sign_in(Identity("sharegram", issuer, sharegram_id), may_link=False)
    async with open_redis(redis_url, SSO_DB, seconds=5) as redis:
        store = SessionStore(redis, seconds=5)
        began_at = await store.now()
        session = await store.create(
            NewSession(account.id, account.generation, "sharegram", issuer, sharegram_id, None, now, began_at)
        )
    assert session is not None
    return KycClient(site, {"Authorization": f"Bearer {AccessTokens(JWT_SECRET).issue(*session)}"})
