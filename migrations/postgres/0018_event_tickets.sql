-- Tickets that open the events once. The hash of the token that each stands for: whoever reads it has neither.
CREATE TABLE event_tickets (
    ticket_hash TEXT PRIMARY KEY,
    token_hash  TEXT NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL
);

CREATE INDEX idx_event_tickets_expiry ON event_tickets(expires_at);
