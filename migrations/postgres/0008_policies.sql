-- Limits that were set for one user: {"cpu": "4", "memory": "unlimited", …}; what is absent is as configured. No
-- reference: sessions may belong to users who are not known here.
CREATE TABLE quotas (
    user_id     TEXT COLLATE "C" PRIMARY KEY,
    limits      JSONB NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL
);

-- When it last began to run, after whatever; and when its present life began: it was made, or terminated and made anew.
ALTER TABLE sessions ADD COLUMN running_since TIMESTAMPTZ;
ALTER TABLE sessions ADD COLUMN started_at TIMESTAMPTZ;
-- When its idle timeout or its longest duration may be reached. A sign of a user does not move it: that it is too early
-- is seen then.
ALTER TABLE sessions ADD COLUMN policy_due_at TIMESTAMPTZ;

CREATE INDEX idx_sessions_policy_due ON sessions(policy_due_at) WHERE policy_due_at IS NOT NULL;

-- Until now nothing was done about these limits: for what runs already the time begins now.
UPDATE sessions SET running_since = now() WHERE phase = 'Running';
UPDATE sessions SET started_at = now() WHERE phase IN ('Running', 'Hibernated', 'Failed');
UPDATE sessions SET policy_due_at = started_at
 WHERE started_at IS NOT NULL AND state <> 'terminated' AND NOT deleting
   AND (coalesce(spec ->> 'idle_timeout', '') <> '' OR coalesce(spec ->> 'max_session_duration', '') <> '');
