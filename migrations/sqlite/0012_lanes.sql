-- What is due is found by controller and lane, without passing what is claimed: the next step as it is expected to be (0
-- changes, 1 removes, 2 looks). A row that says another one than the step turns out to be is done all the same.
ALTER TABLE operations ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;

UPDATE operations SET lane = 1
 WHERE next_attempt_at IS NOT NULL
   AND (kind = 'clean_up' OR session_id IN (SELECT id FROM sessions WHERE deleting OR state = 'terminated'));

DROP INDEX idx_operations_due;
CREATE INDEX idx_operations_due ON operations(queue, lane, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL AND lease_owner IS NULL;

DROP INDEX idx_operations_leased;
CREATE INDEX idx_operations_leased ON operations(lease_expires_at) WHERE lease_owner IS NOT NULL;

-- Lists are paged by newest first, whatever they are filtered by.
DROP INDEX idx_sessions_controller;
CREATE INDEX idx_sessions_controller ON sessions(controller_id, created_at, id);

DROP INDEX idx_sessions_controller_type;
CREATE INDEX idx_sessions_controller_type ON sessions(controller_type, created_at, id);

CREATE INDEX idx_sessions_state ON sessions(state, created_at, id);
CREATE INDEX idx_sessions_phase ON sessions(phase, created_at, id);
