-- Whether a gateway counts budgets in its own memory alone: one that joins waits until the others do not.
ALTER TABLE nodes ADD COLUMN alone BIGINT NOT NULL DEFAULT 0;
