"""Tokens of workers: the server shows that it knows one before the worker shows it."""

from requestor_sdk.model.worker_token import (
    PREFIX,
    digest_of,
    is_proof,
    new_challenge,
    new_token,
    proof_of,
)


def test_each_token_and_each_challenge_is_another():
    assert len({new_token() for _ in range(100)} | {new_challenge() for _ in range(100)}) == 200
    assert new_token().startswith(PREFIX)


def test_who_has_the_digest_can_answer_a_challenge_and_nobody_else_can():
    token, challenge = new_token(), new_challenge()
    digest = digest_of(token)
    assert token not in digest
    proof = proof_of(digest, "w1", challenge)
    assert is_proof(proof, token, "w1", challenge)
    others = [
        proof_of(digest, "w2", challenge),
        proof_of(digest, "w1", new_challenge()),
        proof_of(digest_of(new_token()), "w1", challenge),
        "",
        "\ud800",
    ]
    assert not any(is_proof(other, token, "w1", challenge) for other in others)
