-- Keys, people and what they may spend. BIGINT and TEXT are all that both engines have alike: flags are 0 and 1, lists
-- and objects JSON, times microseconds since 1970, money nano-dollars.

CREATE TABLE keys (
    id TEXT NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL,
    hint TEXT,
    alias TEXT,
    user_id TEXT,
    team_id TEXT,
    organization_id TEXT,
    project_id TEXT,
    agent_id TEXT,
    budget_id TEXT,
    models TEXT,
    aliases TEXT,
    config TEXT,
    permissions TEXT,
    metadata TEXT,
    tags TEXT,
    guardrails TEXT,
    allowed_routes TEXT,
    allowed_cache_controls TEXT,
    access_group_ids TEXT,
    key_type TEXT,
    max_budget_nanos BIGINT,
    soft_budget_nanos BIGINT,
    budget_duration TEXT,
    budget_limits TEXT,
    budget_mode TEXT,
    model_max_budget TEXT,
    temp_budget_increase_nanos BIGINT,
    temp_budget_expires_at BIGINT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_tpm_limit TEXT,
    model_rpm_limit TEXT,
    tpm_limit_type TEXT,
    rpm_limit_type TEXT,
    object_permission TEXT,
    router_settings TEXT,
    blocked BIGINT NOT NULL DEFAULT 0,
    expires_at BIGINT,
    auto_rotate BIGINT NOT NULL DEFAULT 0,
    rotation_interval TEXT,
    rotation_count BIGINT NOT NULL DEFAULT 0,
    rotated_at BIGINT,
    rotates_at BIGINT,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE UNIQUE INDEX keys_hash ON keys (hash);
CREATE UNIQUE INDEX keys_alias ON keys (alias);
CREATE INDEX keys_created_at ON keys (created_at, id);
CREATE INDEX keys_user_id ON keys (user_id, team_id);
CREATE INDEX keys_team_id ON keys (team_id);

CREATE TABLE graces (
    hash TEXT NOT NULL PRIMARY KEY,
    key_id TEXT NOT NULL,
    revoke_at BIGINT NOT NULL
);
CREATE INDEX graces_key_id ON graces (key_id);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    alias TEXT,
    email TEXT,
    role TEXT,
    sso_user_id TEXT,
    password_hash TEXT,
    organization_id TEXT,
    budget_id TEXT,
    models TEXT,
    aliases TEXT,
    config TEXT,
    permissions TEXT,
    metadata TEXT,
    tags TEXT,
    guardrails TEXT,
    allowed_cache_controls TEXT,
    max_budget_nanos BIGINT,
    soft_budget_nanos BIGINT,
    budget_duration TEXT,
    budget_limits TEXT,
    model_max_budget TEXT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_tpm_limit TEXT,
    model_rpm_limit TEXT,
    object_permission TEXT,
    blocked BIGINT NOT NULL DEFAULT 0,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE UNIQUE INDEX users_sso_user_id ON users (sso_user_id);
CREATE INDEX users_created_at ON users (created_at, id);
CREATE INDEX users_email ON users (email);

CREATE TABLE organizations (
    id TEXT NOT NULL PRIMARY KEY,
    alias TEXT,
    budget_id TEXT,
    models TEXT,
    metadata TEXT,
    object_permission TEXT,
    max_budget_nanos BIGINT,
    soft_budget_nanos BIGINT,
    budget_duration TEXT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_max_budget TEXT,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE INDEX organizations_created_at ON organizations (created_at, id);

CREATE TABLE teams (
    id TEXT NOT NULL PRIMARY KEY,
    alias TEXT,
    organization_id TEXT,
    budget_id TEXT,
    models TEXT,
    model_aliases TEXT,
    metadata TEXT,
    tags TEXT,
    guardrails TEXT,
    member_permissions TEXT,
    access_group_ids TEXT,
    max_budget_nanos BIGINT,
    soft_budget_nanos BIGINT,
    budget_duration TEXT,
    budget_limits TEXT,
    model_max_budget TEXT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_tpm_limit TEXT,
    model_rpm_limit TEXT,
    tpm_limit_type TEXT,
    rpm_limit_type TEXT,
    member_max_budget_nanos BIGINT,
    member_budget_duration TEXT,
    member_budget_id TEXT,
    member_tpm_limit BIGINT,
    member_rpm_limit BIGINT,
    member_key_duration TEXT,
    object_permission TEXT,
    router_settings TEXT,
    blocked BIGINT NOT NULL DEFAULT 0,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE INDEX teams_created_at ON teams (created_at, id);
CREATE INDEX teams_alias ON teams (alias);
CREATE INDEX teams_organization_id ON teams (organization_id);

CREATE TABLE team_members (
    team_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    budget_id TEXT,
    max_budget_nanos BIGINT,
    budget_duration TEXT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    models TEXT,
    extra TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_members_user_id ON team_members (user_id);

CREATE TABLE budgets (
    id TEXT NOT NULL PRIMARY KEY,
    max_budget_nanos BIGINT,
    soft_budget_nanos BIGINT,
    budget_duration TEXT,
    model_max_budget TEXT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    max_parallel_requests BIGINT,
    allowed_models TEXT,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE INDEX budgets_created_at ON budgets (created_at, id);

CREATE TABLE customers (
    id TEXT NOT NULL PRIMARY KEY,
    alias TEXT,
    budget_id TEXT,
    default_model TEXT,
    allowed_model_region TEXT,
    max_budget_nanos BIGINT,
    soft_budget_nanos BIGINT,
    budget_duration TEXT,
    model_max_budget TEXT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    max_parallel_requests BIGINT,
    metadata TEXT,
    object_permission TEXT,
    blocked BIGINT NOT NULL DEFAULT 0,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE INDEX customers_created_at ON customers (created_at, id);

CREATE TABLE tags (
    name TEXT NOT NULL PRIMARY KEY,
    description TEXT,
    models TEXT,
    model_info TEXT,
    budget_id TEXT,
    max_budget_nanos BIGINT,
    soft_budget_nanos BIGINT,
    budget_duration TEXT,
    model_max_budget TEXT,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE INDEX tags_created_at ON tags (created_at, name);

CREATE TABLE access_groups (
    id TEXT NOT NULL PRIMARY KEY,
    alias TEXT NOT NULL,
    description TEXT,
    models TEXT,
    mcp_servers TEXT,
    agents TEXT,
    team_ids TEXT,
    key_ids TEXT,
    extra TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT
);
CREATE UNIQUE INDEX access_groups_alias ON access_groups (alias);
CREATE INDEX access_groups_created_at ON access_groups (created_at, id);

-- What was deleted, and by whom.
CREATE TABLE removed (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    at BIGINT NOT NULL,
    removed_by TEXT,
    record TEXT NOT NULL,
    PRIMARY KEY (kind, id, at)
);
CREATE INDEX removed_at ON removed (kind, at);

-- Other gateways read here what is no longer as they remember it. The counter is locked until its transaction ends, so
-- that numbers appear in their order.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('changes', 0);
CREATE TABLE changes (
    number BIGINT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    gone_at BIGINT
);
