-- What a later request may go on from, for a while: responses, turns of tools. Each belongs to a key.
CREATE TABLE kept (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX kept_expires_at ON kept (expires_at);
