-- A phase that is not the one that is wished for: few sessions at any time, though many have the one and many the other.
CREATE INDEX idx_sessions_in_between ON sessions(state, phase, created_at, id)
    WHERE NOT ((state = 'running' AND phase = 'Running')
            OR (state = 'hibernated' AND phase = 'Hibernated')
            OR (state = 'terminated' AND phase = 'Terminated'));
