-- The removal of what a failed creation left has a name of its own: as a deletion it could be mistaken for one later.
UPDATE operations SET kind = 'clean_up'
 WHERE kind = 'delete' AND next_attempt_at IS NOT NULL
   AND session_id IN (SELECT id FROM sessions
                       WHERE phase = 'Failed' AND state <> 'terminated' AND NOT deleting
                         AND sessions.generation = operations.generation);
