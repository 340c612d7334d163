-- What was spent. `spend_nanos` is the sum of the ledger's rows and never set back; what is shown is it and
-- `offset_nanos`, which a reset or an import sets. A window of a budget has a row of its own: its span and its start.

CREATE TABLE totals (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    sub TEXT NOT NULL,
    span TEXT NOT NULL,
    start BIGINT NOT NULL,
    spend_nanos BIGINT NOT NULL,
    offset_nanos BIGINT NOT NULL,
    reserved_nanos BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id, sub, span, start)
);

CREATE TABLE reservations (
    call_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    sub TEXT NOT NULL,
    span TEXT NOT NULL,
    start BIGINT NOT NULL,
    node TEXT NOT NULL,
    nanos BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (call_id, kind, id, sub, span, start)
);
CREATE INDEX reservations_node ON reservations (node);

-- `day` counts from 1970-01-01, UTC. The kind `gateway` holds every call once; the others once for each of their own.
CREATE TABLE daily (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    day BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    model_group TEXT NOT NULL,
    provider TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    tool TEXT NOT NULL,
    spend_nanos BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cache_hits BIGINT NOT NULL,
    millis BIGINT NOT NULL,
    PRIMARY KEY (kind, id, day, key_id, model, model_group, provider, endpoint, tool)
);
CREATE INDEX daily_day ON daily (kind, day);
CREATE INDEX daily_key_id ON daily (key_id, day);
