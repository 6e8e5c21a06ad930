-- Wishes after the creation, and what a drifting backend costs.

-- The last sign of a user. Written on its own, so that it moves neither `updated_at` nor an observation.
ALTER TABLE sessions ADD COLUMN last_activity TEXT;

-- The session's object has been there as wished: whatever fails from then on does not remove it.
ALTER TABLE operations ADD COLUMN established BOOLEAN NOT NULL DEFAULT FALSE;
-- How often the backend drifted in a short time, and when it was last set right.
ALTER TABLE operations ADD COLUMN repairs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN repaired_at TEXT;

UPDATE operations SET established = TRUE
 WHERE session_id IN (SELECT id FROM sessions WHERE phase IN ('Running', 'Hibernated'));
-- From here on a count above zero means that a call was begun whose end is not known.
UPDATE operations SET attempt = 0 WHERE next_attempt_at IS NULL;
