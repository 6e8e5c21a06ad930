-- A database as the implementation before this one left it: the tables that have to do with users and sessions, and some
-- of those that refer to them.
CREATE TABLE users (
    id VARCHAR(255) PRIMARY KEY,
    username VARCHAR(255) UNIQUE NOT NULL,
    email VARCHAR(255) UNIQUE NOT NULL,
    full_name VARCHAR(255),
    role VARCHAR(50) DEFAULT 'user',
    provider VARCHAR(50) DEFAULT 'local',
    active BOOLEAN DEFAULT true,
    password_hash VARCHAR(255),
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    last_login TIMESTAMP
);
CREATE TABLE user_quotas (
    user_id VARCHAR(255) PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    max_sessions INT DEFAULT 5,
    max_cpu VARCHAR(50) DEFAULT '4000m',
    max_memory VARCHAR(50) DEFAULT '16Gi',
    max_storage VARCHAR(50) DEFAULT '100Gi',
    used_sessions INT DEFAULT 0,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE groups (
    id VARCHAR(255) PRIMARY KEY,
    name VARCHAR(255) UNIQUE NOT NULL,
    display_name VARCHAR(255),
    type VARCHAR(50) DEFAULT 'team',
    parent_id VARCHAR(255) REFERENCES groups(id) ON DELETE CASCADE,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE sessions (
    id VARCHAR(255) PRIMARY KEY,
    user_id VARCHAR(255) REFERENCES users(id) ON DELETE CASCADE,
    team_id VARCHAR(255) REFERENCES groups(id) ON DELETE SET NULL,
    template_name VARCHAR(255),
    state VARCHAR(50),
    app_type VARCHAR(50) DEFAULT 'desktop',
    active_connections INT DEFAULT 0,
    url TEXT,
    namespace VARCHAR(255) DEFAULT 'streamspace',
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    last_connection TIMESTAMP,
    last_disconnect TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
ALTER TABLE sessions ADD COLUMN snapshot_config JSONB DEFAULT '{}';
-- Later versions had columns and indexes with names that are used again.
ALTER TABLE sessions ADD COLUMN controller_id VARCHAR(255);
CREATE INDEX idx_sessions_user ON sessions(user_id);
CREATE INDEX idx_sessions_controller ON sessions(controller_id);
CREATE TABLE connections (
    id VARCHAR(255) PRIMARY KEY,
    session_id VARCHAR(255) REFERENCES sessions(id) ON DELETE CASCADE,
    user_id VARCHAR(255) REFERENCES users(id) ON DELETE CASCADE,
    client_ip VARCHAR(45),
    connected_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    last_heartbeat TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE api_keys (
    id SERIAL PRIMARY KEY,
    key_hash VARCHAR(255) UNIQUE NOT NULL,
    name VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) REFERENCES users(id) ON DELETE CASCADE,
    scopes TEXT[],
    created_by VARCHAR(255) REFERENCES users(id) ON DELETE SET NULL
);
CREATE TABLE audit_log (
    id SERIAL PRIMARY KEY,
    user_id VARCHAR(255),
    action VARCHAR(100),
    changes JSONB,
    timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);

INSERT INTO users (id, username, email, full_name, role, password_hash, created_at) VALUES
    ('admin', 'admin', 'admin@streamspace.local', 'Administrator', 'admin', '$2a$10$x', '2025-11-18 09:00:00'),
    ('8a0c1e9e-5b0c-4b5c-9f43-1d1f2c3b4a50', 'carol', 'carol@example.org', 'Carol', 'operator', '$2a$10$y', '2025-11-18 10:00:00');
INSERT INTO users (id, username, email, full_name, role, provider, active, created_at, updated_at)
    VALUES ('nobody', 'nobody', '', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO user_quotas (user_id, max_sessions) VALUES ('admin', 100), ('8a0c1e9e-5b0c-4b5c-9f43-1d1f2c3b4a50', 5);
INSERT INTO sessions (id, user_id, template_name, state, url) VALUES
    ('admin-firefox', 'admin', 'firefox-browser', 'running', 'https://admin-firefox.streamspace.local'),
    ('carol-blender', '8a0c1e9e-5b0c-4b5c-9f43-1d1f2c3b4a50', 'blender', 'hibernated', NULL);
INSERT INTO connections (id, session_id, user_id) VALUES ('c1', 'admin-firefox', 'admin');
INSERT INTO api_keys (key_hash, name, user_id, created_by) VALUES ('h', 'ci', 'admin', 'admin');
INSERT INTO audit_log (user_id, action) VALUES ('admin', 'login');
