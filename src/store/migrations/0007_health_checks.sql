-- What checks of deployments found.
CREATE TABLE health_checks (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    model_id TEXT NOT NULL,
    model_name TEXT NOT NULL,
    took_ms BIGINT NOT NULL,
    error TEXT
);
CREATE INDEX health_checks_model_at ON health_checks (model_id, at);
CREATE INDEX health_checks_at ON health_checks (at);
