SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE public.access_grants (
    token_hash text NOT NULL,
    kind text NOT NULL,
    session_id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.api_tokens (
    token_hash text NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    role text NOT NULL,
    created_by text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone
);
CREATE TABLE public.audit (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor_kind text NOT NULL,
    actor text NOT NULL COLLATE pg_catalog."C",
    role text,
    token_id text,
    token_name text,
    request_id text,
    action text NOT NULL COLLATE pg_catalog."C",
    target_kind text NOT NULL,
    target text NOT NULL COLLATE pg_catalog."C",
    details jsonb DEFAULT '{}'::jsonb NOT NULL
);
ALTER TABLE public.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.controller_tokens (
    controller_id text NOT NULL COLLATE pg_catalog."C",
    token_hash text NOT NULL,
    expires_at timestamp with time zone,
    previous_token_hash text,
    previous_expires_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.controllers (
    id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL,
    name text NOT NULL,
    endpoint text DEFAULT ''::text NOT NULL,
    status text DEFAULT 'offline'::text NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    capabilities jsonb,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    operator_labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    draining boolean DEFAULT false NOT NULL,
    current_sessions bigint DEFAULT 0 NOT NULL,
    last_heartbeat timestamp with time zone,
    epoch bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    active_server text COLLATE pg_catalog."C"
);
CREATE TABLE public.drift (
    id text NOT NULL COLLATE pg_catalog."C",
    controller_id text NOT NULL COLLATE pg_catalog."C",
    object text NOT NULL COLLATE pg_catalog."C",
    session_id text DEFAULT ''::text NOT NULL,
    external_ref text DEFAULT ''::text NOT NULL,
    ownership text NOT NULL,
    node_id text DEFAULT ''::text NOT NULL,
    phase text DEFAULT ''::text NOT NULL,
    wish text DEFAULT ''::text NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    first_seen timestamp with time zone NOT NULL,
    last_seen timestamp with time zone NOT NULL
);
CREATE TABLE public.drift_alarms (
    controller_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL,
    objects bigint NOT NULL,
    placed bigint NOT NULL,
    since timestamp with time zone NOT NULL
);
CREATE TABLE public.events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    type text NOT NULL,
    session_id text COLLATE pg_catalog."C",
    user_id text COLLATE pg_catalog."C",
    controller_id text,
    generation bigint,
    reason text DEFAULT ''::text NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL
);
ALTER TABLE public.events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.idempotency_keys (
    caller text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    body_hash text NOT NULL,
    session_id text NOT NULL,
    response text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.operations (
    session_id text NOT NULL COLLATE pg_catalog."C",
    queue text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL,
    kind text NOT NULL,
    generation bigint NOT NULL,
    attempt bigint DEFAULT 0 NOT NULL,
    failures bigint DEFAULT 0 NOT NULL,
    internal_failures bigint DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone,
    deadline timestamp with time zone,
    lease_owner text,
    lease_expires_at timestamp with time zone,
    epoch bigint DEFAULT 0 NOT NULL,
    handle bytea NOT NULL,
    accepted boolean DEFAULT false NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    last_error text DEFAULT ''::text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    established boolean DEFAULT false NOT NULL,
    repairs bigint DEFAULT 0 NOT NULL,
    repaired_at timestamp with time zone,
    lane bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.quotas (
    user_id text NOT NULL COLLATE pg_catalog."C",
    limits jsonb NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.servers (
    id text NOT NULL COLLATE pg_catalog."C",
    instance text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    renewed_at timestamp with time zone NOT NULL,
    lease_until timestamp with time zone
);
CREATE TABLE public.sessions (
    id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    template_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    controller_id text COLLATE pg_catalog."C",
    controller_type text,
    node_id text DEFAULT ''::text NOT NULL,
    state text NOT NULL,
    deleting boolean DEFAULT false NOT NULL,
    purge_home boolean DEFAULT false NOT NULL,
    generation bigint NOT NULL,
    phase text NOT NULL,
    observed_generation bigint,
    conditions jsonb DEFAULT '[]'::jsonb NOT NULL,
    url text NOT NULL,
    spec jsonb NOT NULL,
    spec_hash text NOT NULL,
    controller_config jsonb DEFAULT '{}'::jsonb NOT NULL,
    placement jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    last_activity timestamp with time zone,
    running_since timestamp with time zone,
    started_at timestamp with time zone,
    policy_due_at timestamp with time zone,
    forget_after timestamp with time zone
);
CREATE TABLE public.swept_events (
    session_id text NOT NULL COLLATE pg_catalog."C",
    user_id text COLLATE pg_catalog."C",
    last_id bigint NOT NULL
);
CREATE TABLE public.templates (
    name text NOT NULL COLLATE pg_catalog."C",
    body jsonb NOT NULL,
    generation bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.tombstones (
    session_id text NOT NULL COLLATE pg_catalog."C",
    controller_id text,
    deleted_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.users (
    id text NOT NULL COLLATE pg_catalog."C",
    username text NOT NULL,
    email text,
    full_name text DEFAULT ''::text NOT NULL,
    role text DEFAULT 'user'::text NOT NULL,
    provider text DEFAULT 'local'::text NOT NULL,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
INSERT INTO public._sqlx_migrations VALUES (5, 'start', '2026-11-28 02:34:18.862255+00', true, '\xc97f76f173aa7b44baf80448bc7a145b15c30ab0383a675429f01679289eb5651abec159a4308af318a6db01ed7aa53e', 12759298);
INSERT INTO public._sqlx_migrations VALUES (6, 'clean_up', '2026-11-28 02:34:18.875437+00', true, '\xa31cdddbf7859e429ed4f03db2742c3dce83b23ddd864eab1b464afe0fcf213da0bcf7d003f8a937d11230410072ea36', 724498);
INSERT INTO public._sqlx_migrations VALUES (7, 'audit', '2026-11-28 02:34:18.876272+00', true, '\x59cd7c34bd2978e758b3ae06bf83b56d42e0bf15c3e5ce93bee820115003e701d6ea06c0864976a1fe8bf58d3a8ef07f', 2713294);
INSERT INTO public._sqlx_migrations VALUES (8, 'policies', '2026-11-28 02:34:18.879149+00', true, '\x25c5ed7b9333c0a4687c1f434576111e5e8259379ed794e7c05ce315ab1c3ea20866993be7002d9b5d531064e2eb1dac', 1351229);
INSERT INTO public._sqlx_migrations VALUES (9, 'drift', '2026-11-28 02:34:18.880632+00', true, '\x30677ab528191758cb8f4bc8961e0b85b3a6a13e533e0c6735fbb1d4c6a97ea05f28041983db70ad6a4a45cf808243ee', 2043768);
INSERT INTO public._sqlx_migrations VALUES (11, 'servers', '2026-11-28 02:34:18.8828+00', true, '\x505dde4bc8d8b003cd7f1ffc81b909a82980933b578b2086258434a2571eff8b9f35b45724d5c593aa3b4b97dae58112', 827112);
INSERT INTO public._sqlx_migrations VALUES (12, 'lanes', '2026-11-28 02:34:18.883737+00', true, '\x603b5530eb49cd09dd81180f0cfe0bf2447e80c8106ed0734a970e4d50326f868788c4646b532c0c173048e5081c2caa', 2307625);
INSERT INTO public.api_tokens VALUES ('382c4ffd8af03f633e1f04cc3116801d795e79c4d3d9c76d785cbdb3415f3284', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'admin', 'admin', 'admin', '2026-11-28 02:34:18.89642+00', NULL, '2026-11-28 02:34:19.479079+00');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-28 02:34:18.898203+00', 'system', 'configuration', NULL, NULL, NULL, NULL, 'token.create', 'token', 'tok-8ff870d4b8b6', '{"name": "admin.token of 1603d1d8a0eac998", "role": "admin", "user_id": "admin", "expires_at": null}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-28 02:34:19.427586+00', 'system', 'configuration', NULL, NULL, NULL, NULL, 'controller.register', 'controller', 'ctrl-571d1b01342a', '{"name": "first", "type": "simulated", "labels": {"region": "lab"}, "endpoint": ""}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (3, '2026-11-28 02:34:19.432654+00', 'system', 'configuration', NULL, NULL, NULL, NULL, 'controller.register', 'controller', 'ctrl-f3a23151576e', '{"name": "second", "type": "simulated", "labels": {}, "endpoint": ""}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (4, '2026-11-28 02:34:19.495906+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'a49ea724-e687-4e14-9cc5-d36b3f595792', 'user.create', 'user', 'alice', '{"role": "user", "email": null, "active": true, "full_name": ""}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (5, '2026-11-28 02:34:19.499823+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '8b0e3dc0-b935-42ca-8d68-d4ff3322d917', 'user.create', 'user', 'otto', '{"role": "operator", "email": null, "active": true, "full_name": ""}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (6, '2026-11-28 02:34:19.503788+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'e4c2c4c0-cf5e-4801-bb46-59eb439a184a', 'quota.set', 'quota', 'alice', '{"limits": {"memory": "8Gi", "sessions": "10"}, "previous": null}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (7, '2026-11-28 02:34:19.50793+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '5dbc979b-07e1-4743-bb84-b9c56d1628b9', 'template.create', 'template', 'desk', '{"generation": 1}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (8, '2026-11-28 02:34:19.510618+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '47979419-7a96-4e99-897d-77c70a9dce8e', 'session.create', 'session', '01a22000-e5f6-7258-b891-eb90aea3fc94', '{"user_id": "alice", "generation": 1, "template_id": "", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (9, '2026-11-28 02:34:19.537568+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '52a90701-2130-47a1-8ee7-7f2f47cab31c', 'session.create', 'session', '01a22000-e611-712c-b0c0-43d070453aac', '{"user_id": "alice", "generation": 1, "template_id": "", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (10, '2026-11-28 02:34:19.55639+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '16172e8a-1940-466d-aef5-4451e4ca12b6', 'session.hibernate', 'session', '01a22000-e611-712c-b0c0-43d070453aac', '{"user_id": "alice", "previous": "running", "generation": 2}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (11, '2026-11-28 02:34:19.574025+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '91195927-90be-4a57-b3d4-85316f91c743', 'session.create', 'session', '01a22000-e635-7531-ab57-b73d1d049f27', '{"user_id": "bob", "generation": 1, "template_id": "", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (12, '2026-11-28 02:34:19.593898+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'd171c4ff-0cbf-41c2-9848-20cf33b6d4e8', 'session.hibernate', 'session', '01a22000-e635-7531-ab57-b73d1d049f27', '{"user_id": "bob", "previous": "running", "generation": 2}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (13, '2026-11-28 02:34:19.613951+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'd8c71675-56f1-40a0-ac10-f0d76a739ff8', 'session.wake', 'session', '01a22000-e635-7531-ab57-b73d1d049f27', '{"user_id": "bob", "previous": "hibernated", "generation": 3}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (14, '2026-11-28 02:34:19.627814+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'e0b42552-4443-410b-9cb4-597fefe311d1', 'session.create', 'session', '01a22000-e66b-72b4-bf54-890f8caa0843', '{"user_id": "bob", "generation": 1, "template_id": "", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (15, '2026-11-28 02:34:19.64594+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'ec2468b2-c6bb-4ffa-badf-4dbbcf5cfd6b', 'session.terminate', 'session', '01a22000-e66b-72b4-bf54-890f8caa0843', '{"user_id": "bob", "previous": "running", "generation": 2}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (16, '2026-11-28 02:34:19.659851+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '56b2491d-d539-4865-b438-3f7085cfbca0', 'session.create', 'session', '01a22000-e68b-7582-8f0c-196130793ecf', '{"user_id": "alice", "generation": 1, "template_id": "desk", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (17, '2026-11-28 02:34:19.675656+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'a44206e9-6425-4dd0-9d58-ceaf8db695ce', 'session.create', 'session', '01a22000-e69b-7592-8236-065da133a4e2', '{"user_id": "bob", "generation": 1, "template_id": "", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (18, '2026-11-28 02:34:19.692948+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'e719837e-345b-4def-a6f1-f462a1029dc4', 'session.delete', 'session', '01a22000-e69b-7592-8236-065da133a4e2', '{"force": false, "user_id": "bob", "generation": 2, "purge_home": false}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (19, '2026-11-28 02:34:20.702405+00', 'system', 'drift', NULL, NULL, NULL, NULL, 'drift.delete', 'session', '01a22000-e69b-7592-8236-065da133a4e2', '{"controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (20, '2026-11-28 02:34:20.725438+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '46c187b5-496d-435f-aae8-99844a4641ac', 'drift.ignore', 'drift', 'drift-016dfdcbf1d5', '{"user_id": "carol", "session_id": "01900000-0000-7000-8000-000000000001", "external_ref": "", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (21, '2026-11-28 02:34:20.731005+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'bc47fdb7-ec6b-47a2-812e-7136a36155e7', 'controller.change', 'controller', 'ctrl-f3a23151576e', '{"labels": {}, "draining": true}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (22, '2026-11-28 02:34:20.737675+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', 'acea74a3-08f6-4d49-bb7f-96a3662ed184', 'session.create', 'session', '01a22000-eac1-73a4-aff2-c28b1e96ea9f', '{"user_id": "bob", "generation": 1, "template_id": "", "controller_id": null}');
INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES (23, '2026-11-28 02:34:20.74491+00', 'user', 'admin', 'admin', 'tok-8ff870d4b8b6', 'admin.token of 1603d1d8a0eac998', '5d465edc-2319-4d5c-b6d4-372af2c171d7', 'session.create', 'session', '01a22000-eac8-7447-b972-f214b3eb07a5', '{"user_id": "alice", "generation": 1, "template_id": "", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.controllers VALUES ('ctrl-f3a23151576e', 'simulated', 'second', '', 'healthy', '', '{"labels": {}, "version": "0.1.0", "capacity": {"total_cpu": "", "max_sessions": 0, "total_memory": "", "available_cpu": "", "total_storage": "", "available_memory": "", "available_storage": ""}, "supports_gpu": false, "supports_watch": true, "supports_networking": true, "supports_hibernation": true, "supports_persistent_storage": true}', '{}', '{}', true, 0, '2026-11-28 02:34:19.437292+00', 1, '2026-11-28 02:34:19.43231+00', '2026-11-28 02:34:20.73033+00', '1603d1d8a0eac998/6f78effe-1a03-4c39-866d-7cd8ecb9583e');
INSERT INTO public.controllers VALUES ('ctrl-571d1b01342a', 'simulated', 'first', '', 'healthy', '', '{"labels": {}, "version": "0.1.0", "capacity": {"total_cpu": "", "max_sessions": 100, "total_memory": "", "available_cpu": "", "total_storage": "", "available_memory": "", "available_storage": ""}, "supports_gpu": false, "supports_watch": true, "supports_networking": true, "supports_hibernation": true, "supports_persistent_storage": true}', '{"region": "lab"}', '{}', false, 6, '2026-11-28 02:34:19.43249+00', 1, '2026-11-28 02:34:19.426505+00', '2026-11-28 02:34:19.43249+00', '1603d1d8a0eac998/6f78effe-1a03-4c39-866d-7cd8ecb9583e');
INSERT INTO public.drift VALUES ('drift-016dfdcbf1d5', 'ctrl-571d1b01342a', '01900000-0000-7000-8000-000000000001', '01900000-0000-7000-8000-000000000001', '', 'owned', 'ss-01900000-0000-7000-8000-000000000001/8', 'Running', '', 'carol', 'unknown_session', 'ignored', '', '2026-11-28 02:34:20.710028+00', '2026-11-28 02:34:20.710028+00');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-28 02:34:19.449081+00', 'controller.health_changed', NULL, NULL, 'ctrl-571d1b01342a', NULL, '', '', '{"status": "healthy", "previous": "offline", "controller_id": "ctrl-571d1b01342a"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-28 02:34:19.453532+00', 'controller.health_changed', NULL, NULL, 'ctrl-f3a23151576e', NULL, '', '', '{"status": "healthy", "previous": "offline", "controller_id": "ctrl-f3a23151576e"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (3, '2026-11-28 02:34:19.512926+00', 'session.created', '01a22000-e5f6-7258-b891-eb90aea3fc94', 'alice', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (4, '2026-11-28 02:34:19.512926+00', 'session.placed', '01a22000-e5f6-7258-b891-eb90aea3fc94', 'alice', NULL, 1, '', '', '{"controller_id": "ctrl-571d1b01342a", "controller_type": "simulated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (5, '2026-11-28 02:34:19.512926+00', 'session.condition_changed', '01a22000-e5f6-7258-b891-eb90aea3fc94', 'alice', NULL, 1, 'Placed', 'placed on ctrl-571d1b01342a', '{"type": "Scheduled", "status": "True", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (6, '2026-11-28 02:34:19.512926+00', 'session.condition_changed', '01a22000-e5f6-7258-b891-eb90aea3fc94', 'alice', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (7, '2026-11-28 02:34:19.53192+00', 'session.phase_changed', '01a22000-e5f6-7258-b891-eb90aea3fc94', 'alice', NULL, 1, 'Running', '', '{"phase": "Running", "previous": "Pending"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (8, '2026-11-28 02:34:19.53192+00', 'session.condition_changed', '01a22000-e5f6-7258-b891-eb90aea3fc94', 'alice', NULL, 1, 'Running', '', '{"type": "Ready", "status": "True", "previous": "False"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (9, '2026-11-28 02:34:19.5389+00', 'session.created', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (10, '2026-11-28 02:34:19.5389+00', 'session.placed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 1, '', '', '{"controller_id": "ctrl-571d1b01342a", "controller_type": "simulated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (11, '2026-11-28 02:34:19.5389+00', 'session.condition_changed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 1, 'Placed', 'placed on ctrl-571d1b01342a', '{"type": "Scheduled", "status": "True", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (12, '2026-11-28 02:34:19.5389+00', 'session.condition_changed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (13, '2026-11-28 02:34:19.550602+00', 'session.phase_changed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 1, 'Running', '', '{"phase": "Running", "previous": "Pending"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (14, '2026-11-28 02:34:19.550602+00', 'session.condition_changed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 1, 'Running', '', '{"type": "Ready", "status": "True", "previous": "False"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (15, '2026-11-28 02:34:19.558138+00', 'session.wish_changed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 2, '', '', '{"state": "hibernated", "deleting": false, "purge_home": false}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (16, '2026-11-28 02:34:19.568748+00', 'session.phase_changed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 2, 'Stopped', 'the box is stopped', '{"phase": "Hibernated", "previous": "Running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (17, '2026-11-28 02:34:19.568748+00', 'session.condition_changed', '01a22000-e611-712c-b0c0-43d070453aac', 'alice', NULL, 2, 'Stopped', 'the box is stopped', '{"type": "Ready", "status": "False", "previous": "True"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (18, '2026-11-28 02:34:19.575192+00', 'session.created', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (19, '2026-11-28 02:34:19.575192+00', 'session.placed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 1, '', '', '{"controller_id": "ctrl-571d1b01342a", "controller_type": "simulated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (20, '2026-11-28 02:34:19.575192+00', 'session.condition_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 1, 'Placed', 'placed on ctrl-571d1b01342a', '{"type": "Scheduled", "status": "True", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (21, '2026-11-28 02:34:19.575192+00', 'session.condition_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (22, '2026-11-28 02:34:19.588833+00', 'session.phase_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 1, 'Running', '', '{"phase": "Running", "previous": "Pending"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (23, '2026-11-28 02:34:19.588833+00', 'session.condition_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 1, 'Running', '', '{"type": "Ready", "status": "True", "previous": "False"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (24, '2026-11-28 02:34:19.595497+00', 'session.wish_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 2, '', '', '{"state": "hibernated", "deleting": false, "purge_home": false}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (25, '2026-11-28 02:34:19.609281+00', 'session.phase_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 2, 'Stopped', 'the box is stopped', '{"phase": "Hibernated", "previous": "Running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (26, '2026-11-28 02:34:19.609281+00', 'session.condition_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 2, 'Stopped', 'the box is stopped', '{"type": "Ready", "status": "False", "previous": "True"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (27, '2026-11-28 02:34:19.615092+00', 'session.wish_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 3, '', '', '{"state": "running", "deleting": false, "purge_home": false}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (28, '2026-11-28 02:34:19.623677+00', 'session.phase_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 3, 'Running', '', '{"phase": "Running", "previous": "Hibernated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (29, '2026-11-28 02:34:19.623677+00', 'session.condition_changed', '01a22000-e635-7531-ab57-b73d1d049f27', 'bob', NULL, 3, 'Running', '', '{"type": "Ready", "status": "True", "previous": "False"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (30, '2026-11-28 02:34:19.62876+00', 'session.created', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (31, '2026-11-28 02:34:19.62876+00', 'session.placed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 1, '', '', '{"controller_id": "ctrl-571d1b01342a", "controller_type": "simulated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (32, '2026-11-28 02:34:19.62876+00', 'session.condition_changed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 1, 'Placed', 'placed on ctrl-571d1b01342a', '{"type": "Scheduled", "status": "True", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (33, '2026-11-28 02:34:19.62876+00', 'session.condition_changed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (34, '2026-11-28 02:34:19.639149+00', 'session.phase_changed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 1, 'Running', '', '{"phase": "Running", "previous": "Pending"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (35, '2026-11-28 02:34:19.639149+00', 'session.condition_changed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 1, 'Running', '', '{"type": "Ready", "status": "True", "previous": "False"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (36, '2026-11-28 02:34:19.6469+00', 'session.wish_changed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 2, '', '', '{"state": "terminated", "deleting": false, "purge_home": false}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (37, '2026-11-28 02:34:19.654753+00', 'session.phase_changed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 2, 'Terminated', '', '{"phase": "Terminated", "previous": "Running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (38, '2026-11-28 02:34:19.654753+00', 'session.condition_changed', '01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', NULL, 2, 'Terminated', '', '{"type": "Ready", "status": "False", "previous": "True"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (39, '2026-11-28 02:34:19.661432+00', 'session.created', '01a22000-e68b-7582-8f0c-196130793ecf', 'alice', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (40, '2026-11-28 02:34:19.661432+00', 'session.placed', '01a22000-e68b-7582-8f0c-196130793ecf', 'alice', NULL, 1, '', '', '{"controller_id": "ctrl-571d1b01342a", "controller_type": "simulated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (41, '2026-11-28 02:34:19.661432+00', 'session.condition_changed', '01a22000-e68b-7582-8f0c-196130793ecf', 'alice', NULL, 1, 'Placed', 'placed on ctrl-571d1b01342a', '{"type": "Scheduled", "status": "True", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (42, '2026-11-28 02:34:19.661432+00', 'session.condition_changed', '01a22000-e68b-7582-8f0c-196130793ecf', 'alice', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (43, '2026-11-28 02:34:19.671323+00', 'session.phase_changed', '01a22000-e68b-7582-8f0c-196130793ecf', 'alice', NULL, 1, 'Running', '', '{"phase": "Running", "previous": "Pending"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (44, '2026-11-28 02:34:19.671323+00', 'session.condition_changed', '01a22000-e68b-7582-8f0c-196130793ecf', 'alice', NULL, 1, 'Running', '', '{"type": "Ready", "status": "True", "previous": "False"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (45, '2026-11-28 02:34:19.676531+00', 'session.created', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (46, '2026-11-28 02:34:19.676531+00', 'session.placed', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 1, '', '', '{"controller_id": "ctrl-571d1b01342a", "controller_type": "simulated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (47, '2026-11-28 02:34:19.676531+00', 'session.condition_changed', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 1, 'Placed', 'placed on ctrl-571d1b01342a', '{"type": "Scheduled", "status": "True", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (48, '2026-11-28 02:34:19.676531+00', 'session.condition_changed', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (49, '2026-11-28 02:34:19.687187+00', 'session.phase_changed', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 1, 'Running', '', '{"phase": "Running", "previous": "Pending"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (50, '2026-11-28 02:34:19.687187+00', 'session.condition_changed', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 1, 'Running', '', '{"type": "Ready", "status": "True", "previous": "False"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (51, '2026-11-28 02:34:19.693968+00', 'session.wish_changed', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 2, '', '', '{"state": "running", "deleting": true, "purge_home": false}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (52, '2026-11-28 02:34:19.704076+00', 'session.deleted', '01a22000-e69b-7592-8236-065da133a4e2', 'bob', NULL, 2, '', '', '{"purge_home": false}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (53, '2026-11-28 02:34:20.730703+00', 'controller.changed', NULL, NULL, 'ctrl-f3a23151576e', NULL, '', '', '{"labels": {}, "draining": true, "controller_id": "ctrl-f3a23151576e"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (54, '2026-11-28 02:34:20.738572+00', 'session.created', '01a22000-eac1-73a4-aff2-c28b1e96ea9f', 'bob', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (55, '2026-11-28 02:34:20.738572+00', 'session.condition_changed', '01a22000-eac1-73a4-aff2-c28b1e96ea9f', 'bob', NULL, 1, 'Unschedulable', 'a controller of type "simulated" is draining', '{"type": "Scheduled", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (56, '2026-11-28 02:34:20.738572+00', 'session.condition_changed', '01a22000-eac1-73a4-aff2-c28b1e96ea9f', 'bob', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (57, '2026-11-28 02:34:20.746142+00', 'session.created', '01a22000-eac8-7447-b972-f214b3eb07a5', 'alice', NULL, 1, '', '', '{"state": "running"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (58, '2026-11-28 02:34:20.746142+00', 'session.placed', '01a22000-eac8-7447-b972-f214b3eb07a5', 'alice', NULL, 1, '', '', '{"controller_id": "ctrl-571d1b01342a", "controller_type": "simulated"}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (59, '2026-11-28 02:34:20.746142+00', 'session.condition_changed', '01a22000-eac8-7447-b972-f214b3eb07a5', 'alice', NULL, 1, 'Placed', 'placed on ctrl-571d1b01342a', '{"type": "Scheduled", "status": "True", "previous": null}');
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (60, '2026-11-28 02:34:20.746142+00', 'session.condition_changed', '01a22000-eac8-7447-b972-f214b3eb07a5', 'alice', NULL, 1, 'Pending', 'not started yet', '{"type": "Ready", "status": "False", "previous": null}');
INSERT INTO public.idempotency_keys VALUES ('admin', 'alice-1', '6da359f3481f680de5d853d296e3202dda211a88530062df19d80266f88326c1', '01a22000-e5f6-7258-b891-eb90aea3fc94', '{"id":"01a22000-e5f6-7258-b891-eb90aea3fc94","user_id":"alice","template_id":"","controller_id":"ctrl-571d1b01342a","controller_type":"simulated","node_id":"","state":"running","phase":"Pending","url":"/s/01a22000-e5f6-7258-b891-eb90aea3fc94/","spec":{"base_image":"any","resources":{"memory":"256Mi","cpu":"250m","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":true,"home_size":"","idle_timeout":"30m","max_session_duration":"","labels":{}},"status":{"conditions":[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-571d1b01342a","since":"2026-11-28T02:34:19.510618Z"},{"type":"Ready","status":"False","reason":"Pending","message":"not started yet","since":"2026-11-28T02:34:19.510618Z"}],"observed_generation":null,"last_activity":null,"operation":{"kind":"create","attempt":0,"deadline":null,"next_attempt_at":"2026-11-28T02:34:19.510618Z","message":"","last_error":"","since":"2026-11-28T02:34:19.511Z"}},"generation":1,"deleting":false,"created_at":"2026-11-28T02:34:19.510321Z","updated_at":"2026-11-28T02:34:19.510321Z"}', '2026-11-28 02:34:19.510618+00', '2026-11-29 02:34:19.510618+00');
INSERT INTO public.operations VALUES ('01a22000-e5f6-7258-b891-eb90aea3fc94', 'ctrl-571d1b01342a', '01a22000-e5f7-725a-ac4f-500bd74917e7', 'create', 1, 0, 0, 0, NULL, NULL, NULL, NULL, 1, '\x', true, '', '', '2026-11-28 02:34:19.530845+00', true, 0, NULL, 0);
INSERT INTO public.operations VALUES ('01a22000-e611-712c-b0c0-43d070453aac', 'ctrl-571d1b01342a', '01a22000-e62a-7348-ace0-6731c49e410b', 'hibernate', 2, 0, 0, 0, NULL, NULL, NULL, NULL, 2, '\x', true, 'the box is stopped', '', '2026-11-28 02:34:19.56798+00', true, 0, NULL, 0);
INSERT INTO public.operations VALUES ('01a22000-e635-7531-ab57-b73d1d049f27', 'ctrl-571d1b01342a', '01a22000-e662-7190-8035-4d8d0f300682', 'wake', 3, 0, 0, 0, NULL, NULL, NULL, NULL, 3, '\x', true, '', '', '2026-11-28 02:34:19.623088+00', true, 0, NULL, 0);
INSERT INTO public.operations VALUES ('01a22000-e66b-72b4-bf54-890f8caa0843', 'ctrl-571d1b01342a', '01a22000-e681-7315-97f7-19333b1d0122', 'delete', 2, 0, 0, 0, NULL, NULL, NULL, NULL, 2, '\x', false, '', '', '2026-11-28 02:34:19.65435+00', false, 0, NULL, 0);
INSERT INTO public.operations VALUES ('01a22000-e68b-7582-8f0c-196130793ecf', 'ctrl-571d1b01342a', '01a22000-e68c-7577-983b-e6ee0f3277a6', 'create', 1, 0, 0, 0, NULL, NULL, NULL, NULL, 1, '\x', true, '', '', '2026-11-28 02:34:19.670657+00', true, 0, NULL, 0);
INSERT INTO public.operations VALUES ('01a22000-eac8-7447-b972-f214b3eb07a5', 'ctrl-571d1b01342a', '01a22000-eac9-7013-86c3-b68473de122b', 'create', 1, 1, 0, 0, '2026-11-28 02:34:20.748983+00', '2026-11-28 02:44:20.748983+00', '1603d1d8a0eac998/6f78effe-1a03-4c39-866d-7cd8ecb9583e', '2026-11-28 02:35:50.748983+00', 1, '\x', false, '', '', '2026-11-28 02:34:20.748983+00', false, 0, NULL, 0);
INSERT INTO public.operations VALUES ('01a22000-eac1-73a4-aff2-c28b1e96ea9f', '', '01a22000-eac1-73a4-aff2-c28cb5882d57', 'create', 1, 0, 1, 0, '2026-11-28 02:34:22.74081+00', '2026-11-29 02:34:21.742655+00', NULL, NULL, 1, '\x', false, '', '', '2026-11-28 02:34:21.742655+00', false, 0, NULL, 0);
INSERT INTO public.quotas VALUES ('alice', '{"memory": "8Gi", "sessions": "10"}', '2026-11-28 02:34:19.503423+00');
INSERT INTO public.servers VALUES ('1603d1d8a0eac998/6f78effe-1a03-4c39-866d-7cd8ecb9583e', '1603d1d8a0eac998', '2026-11-28 02:34:18.902329+00', '2026-11-28 02:34:21.911565+00', '2026-11-28 02:34:24.411565+00');
INSERT INTO public.sessions VALUES ('01a22000-e5f6-7258-b891-eb90aea3fc94', 'alice', '', 'ctrl-571d1b01342a', 'simulated', 'ss-01a22000-e5f6-7258-b891-eb90aea3fc94/2', 'running', false, false, 1, 'Running', 1, '[{"type": "Scheduled", "since": "2026-11-28T02:34:19.510618Z", "reason": "Placed", "status": "True", "message": "placed on ctrl-571d1b01342a"}, {"type": "Ready", "since": "2026-11-28T02:34:19.525720251Z", "reason": "Running", "status": "True", "message": ""}]', '/s/01a22000-e5f6-7258-b891-eb90aea3fc94/', '{"env": [], "ports": [], "labels": {}, "home_size": "", "resources": {"cpu": "250m", "memory": "256Mi", "storage": ""}, "base_image": "any", "idle_timeout": "30m", "volume_mounts": [], "persistent_home": true, "max_session_duration": ""}', 'db683ad2146c17615fb52d356bd056290df8c79db66f2352388a9e2992098a24', '{}', '{"labels": {}, "require": [], "controller_id": "ctrl-571d1b01342a", "controller_type": null}', '2026-11-28 02:34:19.510321+00', '2026-11-28 02:34:19.530845+00', NULL, '2026-11-28 02:34:19.530845+00', '2026-11-28 02:34:19.530845+00', '2026-11-28 03:04:19.530845+00', NULL);
INSERT INTO public.sessions VALUES ('01a22000-e611-712c-b0c0-43d070453aac', 'alice', '', 'ctrl-571d1b01342a', 'simulated', 'ss-01a22000-e611-712c-b0c0-43d070453aac/3', 'hibernated', false, false, 2, 'Hibernated', 2, '[{"type": "Scheduled", "since": "2026-11-28T02:34:19.537568Z", "reason": "Placed", "status": "True", "message": "placed on ctrl-571d1b01342a"}, {"type": "Ready", "since": "2026-11-28T02:34:19.564516226Z", "reason": "Stopped", "status": "False", "message": "the box is stopped"}]', '/s/01a22000-e611-712c-b0c0-43d070453aac/', '{"env": [], "ports": [], "labels": {}, "home_size": "", "resources": {"cpu": "250m", "memory": "256Mi", "storage": ""}, "base_image": "any", "idle_timeout": "", "volume_mounts": [], "persistent_home": false, "max_session_duration": ""}', 'c178639cd8ef1ad444761a817b995ceff26d1d6acf83f8b24fea4dc3c34d0c9a', '{}', '{"labels": {}, "require": [], "controller_id": "ctrl-571d1b01342a", "controller_type": null}', '2026-11-28 02:34:19.537015+00', '2026-11-28 02:34:19.56798+00', NULL, NULL, '2026-11-28 02:34:19.549915+00', NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22000-e635-7531-ab57-b73d1d049f27', 'bob', '', 'ctrl-571d1b01342a', 'simulated', 'ss-01a22000-e635-7531-ab57-b73d1d049f27/4', 'running', false, false, 3, 'Running', 3, '[{"type": "Scheduled", "since": "2026-11-28T02:34:19.574025Z", "reason": "Placed", "status": "True", "message": "placed on ctrl-571d1b01342a"}, {"type": "Ready", "since": "2026-11-28T02:34:19.620845258Z", "reason": "Running", "status": "True", "message": ""}]', '/s/01a22000-e635-7531-ab57-b73d1d049f27/', '{"env": [], "ports": [], "labels": {}, "home_size": "", "resources": {"cpu": "250m", "memory": "256Mi", "storage": ""}, "base_image": "any", "idle_timeout": "", "volume_mounts": [], "persistent_home": false, "max_session_duration": ""}', 'c178639cd8ef1ad444761a817b995ceff26d1d6acf83f8b24fea4dc3c34d0c9a', '{}', '{"labels": {}, "require": [], "controller_id": "ctrl-571d1b01342a", "controller_type": null}', '2026-11-28 02:34:19.573616+00', '2026-11-28 02:34:19.623088+00', NULL, '2026-11-28 02:34:19.623088+00', '2026-11-28 02:34:19.588293+00', NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22000-e66b-72b4-bf54-890f8caa0843', 'bob', '', 'ctrl-571d1b01342a', 'simulated', '', 'terminated', false, false, 2, 'Terminated', 2, '[{"type": "Scheduled", "since": "2026-11-28T02:34:19.627814Z", "reason": "Placed", "status": "True", "message": "placed on ctrl-571d1b01342a"}, {"type": "Ready", "since": "2026-11-28T02:34:19.652663187Z", "reason": "Terminated", "status": "False", "message": ""}]', '/s/01a22000-e66b-72b4-bf54-890f8caa0843/', '{"env": [], "ports": [], "labels": {}, "home_size": "", "resources": {"cpu": "250m", "memory": "256Mi", "storage": ""}, "base_image": "any", "idle_timeout": "", "volume_mounts": [], "persistent_home": false, "max_session_duration": ""}', 'c178639cd8ef1ad444761a817b995ceff26d1d6acf83f8b24fea4dc3c34d0c9a', '{}', '{"labels": {}, "require": [], "controller_id": "ctrl-571d1b01342a", "controller_type": null}', '2026-11-28 02:34:19.627438+00', '2026-11-28 02:34:19.65435+00', NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22000-e68b-7582-8f0c-196130793ecf', 'alice', 'desk', 'ctrl-571d1b01342a', 'simulated', 'ss-01a22000-e68b-7582-8f0c-196130793ecf/6', 'running', false, false, 1, 'Running', 1, '[{"type": "Scheduled", "since": "2026-11-28T02:34:19.659851Z", "reason": "Placed", "status": "True", "message": "placed on ctrl-571d1b01342a"}, {"type": "Ready", "since": "2026-11-28T02:34:19.668576714Z", "reason": "Running", "status": "True", "message": ""}]', '/s/01a22000-e68b-7582-8f0c-196130793ecf/', '{"env": [{"name": "PIN", "value": "4711", "secret": true}], "ports": [], "labels": {}, "home_size": "", "resources": {"cpu": "", "memory": "256Mi", "storage": ""}, "base_image": "any", "idle_timeout": "", "volume_mounts": [], "persistent_home": false, "max_session_duration": ""}', '52816017a4bdb1369337203bab2e04e496429061e278bcab526a17a9912a2660', '{}', '{"labels": {}, "require": [], "template": {"images": {}, "preferred": null, "compatible": [], "generation": 1, "common_image": true, "controller_config": {}}, "controller_id": "ctrl-571d1b01342a", "controller_type": null}', '2026-11-28 02:34:19.65951+00', '2026-11-28 02:34:19.670657+00', NULL, '2026-11-28 02:34:19.670657+00', '2026-11-28 02:34:19.670657+00', NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22000-eac8-7447-b972-f214b3eb07a5', 'alice', '', 'ctrl-571d1b01342a', 'simulated', '', 'running', false, false, 1, 'Pending', NULL, '[{"type": "Scheduled", "since": "2026-11-28T02:34:20.744910Z", "reason": "Placed", "status": "True", "message": "placed on ctrl-571d1b01342a"}, {"type": "Ready", "since": "2026-11-28T02:34:20.744910Z", "reason": "Pending", "status": "False", "message": "not started yet"}]', '/s/01a22000-eac8-7447-b972-f214b3eb07a5/', '{"env": [], "ports": [], "labels": {}, "home_size": "", "resources": {"cpu": "", "memory": "1Gi", "storage": ""}, "base_image": "any", "idle_timeout": "", "volume_mounts": [], "persistent_home": false, "max_session_duration": ""}', 'eac67aa013f460ae451928e86c2a73819c05d6e50fc61a2807bcb93572597f6c', '{}', '{"labels": {}, "require": [], "controller_id": "ctrl-571d1b01342a", "controller_type": null}', '2026-11-28 02:34:20.744467+00', '2026-11-28 02:34:20.744467+00', NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.sessions VALUES ('01a22000-eac1-73a4-aff2-c28b1e96ea9f', 'bob', '', NULL, NULL, '', 'running', false, false, 1, 'Pending', NULL, '[{"type": "Scheduled", "since": "2026-11-28T02:34:20.737675Z", "reason": "Unschedulable", "status": "False", "message": "a controller of type \"simulated\" is draining"}, {"type": "Ready", "since": "2026-11-28T02:34:20.737675Z", "reason": "Pending", "status": "False", "message": "not started yet"}]', '/s/01a22000-eac1-73a4-aff2-c28b1e96ea9f/', '{"env": [], "ports": [], "labels": {}, "home_size": "", "resources": {"cpu": "", "memory": "", "storage": ""}, "base_image": "any", "idle_timeout": "", "volume_mounts": [], "persistent_home": false, "max_session_duration": ""}', 'e4f2327054daf39a9d8aeea76bd3d8b623c5f192bbd75dad969d6eb24a422036', '{}', '{"labels": {}, "require": [], "controller_id": "ctrl-f3a23151576e", "controller_type": null}', '2026-11-28 02:34:20.737315+00', '2026-11-28 02:34:21.742655+00', NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.templates VALUES ('desk', '{"icon": "", "spec": {"env": [{"name": "PIN", "value": "4711", "secret": true}], "resources": {"memory": "256Mi"}, "base_image": "any"}, "tags": [], "images": {}, "app_type": "desktop", "category": "", "description": "", "capabilities": [], "display_name": "Desk", "controller_config": {}, "preferred_controller": null, "compatible_controllers": []}', 1, '2026-11-28 02:34:19.507529+00', '2026-11-28 02:34:19.507529+00');
INSERT INTO public.tombstones VALUES ('01a22000-e69b-7592-8236-065da133a4e2', 'ctrl-571d1b01342a', '2026-11-28 02:34:19.703183+00', '2026-12-28 02:34:19.703183+00');
INSERT INTO public.users VALUES ('admin', 'admin', NULL, '', 'admin', 'local', true, '2026-11-28 02:34:18.89642+00', '2026-11-28 02:34:18.89642+00');
INSERT INTO public.users VALUES ('alice', 'alice', NULL, '', 'user', 'local', true, '2026-11-28 02:34:19.493685+00', '2026-11-28 02:34:19.493685+00');
INSERT INTO public.users VALUES ('otto', 'otto', NULL, '', 'operator', 'local', true, '2026-11-28 02:34:19.499081+00', '2026-11-28 02:34:19.499081+00');
SELECT pg_catalog.setval('public.audit_id_seq', 23, true);
SELECT pg_catalog.setval('public.events_id_seq', 60, true);
ALTER TABLE ONLY public._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.access_grants
    ADD CONSTRAINT access_grants_pkey PRIMARY KEY (token_hash);
ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_pkey PRIMARY KEY (token_hash);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.controller_tokens
    ADD CONSTRAINT controller_tokens_pkey PRIMARY KEY (controller_id);
ALTER TABLE ONLY public.controllers
    ADD CONSTRAINT controllers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.controllers
    ADD CONSTRAINT controllers_type_name_key UNIQUE (type, name);
ALTER TABLE ONLY public.drift_alarms
    ADD CONSTRAINT drift_alarms_pkey PRIMARY KEY (controller_id);
ALTER TABLE ONLY public.drift
    ADD CONSTRAINT drift_controller_id_object_key UNIQUE (controller_id, object);
ALTER TABLE ONLY public.drift
    ADD CONSTRAINT drift_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (caller, key);
ALTER TABLE ONLY public.operations
    ADD CONSTRAINT operations_pkey PRIMARY KEY (session_id);
ALTER TABLE ONLY public.quotas
    ADD CONSTRAINT quotas_pkey PRIMARY KEY (user_id);
ALTER TABLE ONLY public.servers
    ADD CONSTRAINT servers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.swept_events
    ADD CONSTRAINT swept_events_pkey PRIMARY KEY (session_id);
ALTER TABLE ONLY public.templates
    ADD CONSTRAINT templates_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.tombstones
    ADD CONSTRAINT tombstones_pkey PRIMARY KEY (session_id);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_email_key UNIQUE (email);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_username_key UNIQUE (username);
CREATE INDEX idx_access_grants_expiry ON public.access_grants USING btree (expires_at);
CREATE INDEX idx_access_grants_session ON public.access_grants USING btree (session_id);
CREATE INDEX idx_access_grants_user ON public.access_grants USING btree (user_id);
CREATE UNIQUE INDEX idx_api_tokens_id ON public.api_tokens USING btree (id);
CREATE INDEX idx_api_tokens_user ON public.api_tokens USING btree (user_id);
CREATE INDEX idx_audit_action ON public.audit USING btree (action, id);
CREATE INDEX idx_audit_actor ON public.audit USING btree (actor, id);
CREATE INDEX idx_audit_at ON public.audit USING btree (at);
CREATE INDEX idx_audit_target ON public.audit USING btree (target, id);
CREATE INDEX idx_controllers_status ON public.controllers USING btree (status);
CREATE INDEX idx_controllers_type ON public.controllers USING btree (type);
CREATE INDEX idx_drift_first_seen ON public.drift USING btree (first_seen, id);
CREATE INDEX idx_events_at ON public.events USING btree (at);
CREATE INDEX idx_events_session ON public.events USING btree (session_id, id);
CREATE INDEX idx_events_user ON public.events USING btree (user_id, id);
CREATE INDEX idx_idempotency_keys_expiry ON public.idempotency_keys USING btree (expires_at);
CREATE INDEX idx_operations_due ON public.operations USING btree (queue, lane, next_attempt_at) WHERE ((next_attempt_at IS NOT NULL) AND (lease_owner IS NULL));
CREATE INDEX idx_operations_leased ON public.operations USING btree (lease_expires_at) WHERE (lease_owner IS NOT NULL);
CREATE INDEX idx_sessions_controller ON public.sessions USING btree (controller_id, created_at, id);
CREATE INDEX idx_sessions_controller_type ON public.sessions USING btree (controller_type, created_at, id);
CREATE INDEX idx_sessions_created ON public.sessions USING btree (created_at, id);
CREATE INDEX idx_sessions_phase ON public.sessions USING btree (phase, created_at, id);
CREATE INDEX idx_sessions_policy_due ON public.sessions USING btree (policy_due_at) WHERE (policy_due_at IS NOT NULL);
CREATE INDEX idx_sessions_state ON public.sessions USING btree (state, created_at, id);
CREATE INDEX idx_sessions_template ON public.sessions USING btree (template_id, created_at, id);
CREATE INDEX idx_sessions_user ON public.sessions USING btree (user_id, created_at, id);
CREATE INDEX idx_swept_events_last ON public.swept_events USING btree (last_id);
CREATE INDEX idx_tombstones_expiry ON public.tombstones USING btree (expires_at);
ALTER TABLE ONLY public.access_grants
    ADD CONSTRAINT access_grants_session_id_fkey FOREIGN KEY (session_id) REFERENCES public.sessions(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.access_grants
    ADD CONSTRAINT access_grants_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.controller_tokens
    ADD CONSTRAINT controller_tokens_controller_id_fkey FOREIGN KEY (controller_id) REFERENCES public.controllers(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.drift_alarms
    ADD CONSTRAINT drift_alarms_controller_id_fkey FOREIGN KEY (controller_id) REFERENCES public.controllers(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.drift
    ADD CONSTRAINT drift_controller_id_fkey FOREIGN KEY (controller_id) REFERENCES public.controllers(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.operations
    ADD CONSTRAINT operations_session_id_fkey FOREIGN KEY (session_id) REFERENCES public.sessions(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_controller_id_fkey FOREIGN KEY (controller_id) REFERENCES public.controllers(id);
