-- The ledger: one row a call. Its key is a UUIDv7, which begins with its time; so the key alone says the month, and
-- retention drops whole partitions. Partitions are made when the first row of their month is booked. The collation is
-- that of bytes: a language's would not keep the order of time.

CREATE TABLE ledger (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    first_at BIGINT,
    ended_at BIGINT NOT NULL,
    client_id TEXT,
    upstream_id TEXT,
    session_id TEXT,
    trace_id TEXT,
    node TEXT,
    call_type TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    stream BIGINT NOT NULL DEFAULT 0,
    key_id TEXT,
    key_alias TEXT,
    user_id TEXT,
    team_id TEXT,
    organization_id TEXT,
    project_id TEXT,
    agent_id TEXT,
    end_user TEXT,
    tags TEXT,
    model TEXT NOT NULL,
    model_group TEXT,
    upstream_model TEXT,
    deployment TEXT,
    provider TEXT,
    api_base TEXT,
    tool TEXT,
    prompt_tokens BIGINT NOT NULL DEFAULT 0,
    completion_tokens BIGINT NOT NULL DEFAULT 0,
    cached_tokens BIGINT NOT NULL DEFAULT 0,
    cache_write_tokens BIGINT NOT NULL DEFAULT 0,
    cache_write_1h_tokens BIGINT NOT NULL DEFAULT 0,
    reasoning_tokens BIGINT NOT NULL DEFAULT 0,
    audio_in_tokens BIGINT NOT NULL DEFAULT 0,
    audio_out_tokens BIGINT NOT NULL DEFAULT 0,
    image_in_tokens BIGINT NOT NULL DEFAULT 0,
    image_out_tokens BIGINT NOT NULL DEFAULT 0,
    searches BIGINT NOT NULL DEFAULT 0,
    usage TEXT,
    cost_nanos BIGINT NOT NULL DEFAULT 0,
    input_nanos BIGINT NOT NULL DEFAULT 0,
    output_nanos BIGINT NOT NULL DEFAULT 0,
    other_nanos BIGINT NOT NULL DEFAULT 0,
    reserved_nanos BIGINT NOT NULL DEFAULT 0,
    estimated BIGINT NOT NULL DEFAULT 0,
    unpriced BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL,
    http_status BIGINT,
    error_class TEXT,
    error_code TEXT,
    error TEXT,
    retries BIGINT NOT NULL DEFAULT 0,
    fallbacks BIGINT NOT NULL DEFAULT 0,
    cache_hit BIGINT NOT NULL DEFAULT 0,
    cache_key TEXT,
    ip TEXT,
    user_agent TEXT,
    metadata TEXT
) PARTITION BY RANGE (id);
CREATE INDEX ledger_key_id ON ledger (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX ledger_user_id ON ledger (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX ledger_team_id ON ledger (team_id, id) WHERE team_id IS NOT NULL;
CREATE INDEX ledger_end_user ON ledger (end_user, id) WHERE end_user IS NOT NULL;
CREATE INDEX ledger_session_id ON ledger (session_id, id) WHERE session_id IS NOT NULL;
CREATE INDEX ledger_client_id ON ledger (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX ledger_upstream_id ON ledger (upstream_id) WHERE upstream_id IS NOT NULL;
CREATE INDEX ledger_model_group ON ledger (model_group, id) WHERE model_group IS NOT NULL;
CREATE INDEX ledger_failed ON ledger (status, id) WHERE status <> 'success';

-- What was asked and answered, where the operator wants that kept; it goes before the rows of the ledger do.
CREATE TABLE prompts (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    request TEXT,
    response TEXT
);

-- Which rows of the ledger have a tag.
CREATE TABLE ledger_tags (
    tag TEXT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tag, id)
);
CREATE INDEX ledger_tags_id ON ledger_tags (id);
