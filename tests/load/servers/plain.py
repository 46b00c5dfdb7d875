"""The plain way, as most people write it: FastAPI, `json.loads`, pydantic, one `send_and_wait` a request."""

import hashlib
import hmac
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel


class Webhook(BaseModel):
    event: str
    timestamp: str
    data: dict[str, object]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], acks="all", enable_idempotence=True
    )
    await producer.start()
    app.state.producer = producer
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/sharegram")
async def receive(request: Request) -> dict[str, object]:
    body = await request.body()
    secret = os.environ["SHAREGRAM_WEBHOOK_SECRET"].encode()
    expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Sharegram-Signature", "")):
        raise HTTPException(401)
    webhook = Webhook(**json.loads(body))
    key = str(webhook.data["performerId"]).encode()
    await app.state.producer.send_and_wait("sharegram.performer.v1", value=body, key=key)
    return {"success": True}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="error")
