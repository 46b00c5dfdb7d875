"""A stand-in Sharegram: the partner's API, its webhooks, its sign-in, and a `/_sim` interface that steers them.

It shares no code with the services. Signatures and orders are implemented a second time here, so that a mistake
in one of the two shows as a disagreement instead of cancelling out.

    app.py          the wiring;  serving.py, __main__.py  the two ways to run it;  settings.py  what it is told
    certificates.py a TLS endpoint's certificates, good and bad
    web/            what is served: steering, the partner API, sign-in; failures and faults around them
    provider.py     a change at the master, and announcements.py: the webhooks that follow from it
    performers.py, people.py, verifications.py, verdicts.py     what Sharegram knows
    courier.py      the way of a webhook: in order per performer (lanes.py), retried, recorded (delivery.py)
    webhooks.py     what a webhook says;  signing.py  how it is signed;  outgoing.py  both, as one request
    keys.py, tokens.py, authorization.py     signing keys, tokens, the authorization code flow
    client.py       steers a simulator from Python;  testing.py  starts one in a test, and a receiver for its webhooks
"""
