PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'start','2026-11-28 02:34:00',1,X'4F9BE473BF64255C486C7040E02799FB6DED915A3BA27E0192849EECA56620FE77E1E13A8C31D5F4D50D6993E4437E7E',3116199);
INSERT INTO "_sqlx_migrations" VALUES(2,'wishes','2026-11-28 02:34:00',1,X'DA1287BB45D3903CA9BD74497DFBF9C846F2937AC70B6C9E1C6F08C59376F7803F301F5C3600D5612746E5B9CB8FC6FA',2418582);
INSERT INTO "_sqlx_migrations" VALUES(3,'events','2026-11-28 02:34:00',1,X'4B658B926E923BCBD71CE99F7C65BA44CE97E57DB4229FF3A2E19335BC04E26CD7C2F24E63658900ED705F9CC5DB0A56',843877);
INSERT INTO "_sqlx_migrations" VALUES(4,'accounts','2026-11-28 02:34:00',1,X'5868D8D35EC3F1698B0F5971BB8B8BF8C84F54A0F9FCB7FBDB1C362D6F47810A0DFBF6C49044FCC607D39D597AD7C62A',2132642);
INSERT INTO "_sqlx_migrations" VALUES(5,'access_grants','2026-11-28 02:34:00',1,X'7747C8F9F0C74E16E2976E1634DA10FF44AAAF89D74C1ADB3A5F8CF68CE23EF514A68AF3A63AB9D7F8F705ED5C461333',684628);
INSERT INTO "_sqlx_migrations" VALUES(6,'clean_up','2026-11-28 02:34:00',1,X'A31CDDDBF7859E429ED4F03DB2742C3DCE83B23DDD864EAB1B464AFE0FCF213DA0BCF7D003F8A937D11230410072EA36',426320);
INSERT INTO "_sqlx_migrations" VALUES(7,'audit','2026-11-28 02:34:00',1,X'1829F6DD45E0520D15FC32BE09392EA81B6681958F54986B4188B9AFF7999F61B9DB88BCB1BC7CC51529A0F1CE0CBBA7',806681);
INSERT INTO "_sqlx_migrations" VALUES(8,'policies','2026-11-28 02:34:00',1,X'FDF82E8A362066F9873FDC5A421AF518E1669C798E26436C66E28ECA2CAA9BFB3DB53B199A8775C3FC5CD07A642FD964',1461495);
INSERT INTO "_sqlx_migrations" VALUES(9,'drift','2026-11-28 02:34:00',1,X'F9D3E567E3541D67722A86AF3EDC578125F02052C8425B1DCE044E4FC38FDDBA99489B1945A56533976E4055AEB9F9D3',990568);
INSERT INTO "_sqlx_migrations" VALUES(11,'servers','2026-11-28 02:34:00',1,X'E6F0E0EC1B5DFD25C0A0DDC0DA758405EA35154D7459D9D89785A345C610B1F25BF67446B64141EE12F2800FFB7BEAC8',2511962);
INSERT INTO "_sqlx_migrations" VALUES(12,'lanes','2026-11-28 02:34:00',1,X'CA0896A6E59FF0C00992BD4A20FA12E8C920CCD8797AD0B58E2F9AE012E300BFA5D91199EA1B0CA0547F5417866D5996',1386923);
CREATE TABLE access_grants (
    token_hash  TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    session_id  TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    created_at  TEXT NOT NULL,
    expires_at  TEXT NOT NULL
);
CREATE TABLE api_tokens (
    token_hash  TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    user_id     TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    role        TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    expires_at  TEXT
, id TEXT NOT NULL DEFAULT '', created_by TEXT NOT NULL DEFAULT '', last_used_at TEXT);
INSERT INTO "api_tokens" VALUES('92c950ebf128ca90acb7548839e6e8f23933b624ddfd53707ddb69fac1f7f10c','admin.token','admin','admin','2026-11-28T02:34:00.034804+00:00',NULL,'tok-ae11c55e8270','admin','2026-11-28T02:34:00.702922+00:00');
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          TEXT NOT NULL,
    -- `user` = a caller of the API, `system` = a rule of the server.
    actor_kind  TEXT NOT NULL,
    -- The user's id, or the name of the rule.
    actor       TEXT NOT NULL,
    role        TEXT,
    token_id    TEXT,
    token_name  TEXT,
    -- The request that asked for it, as the server's log has it.
    request_id  TEXT,
    action      TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target      TEXT NOT NULL,
    details     TEXT NOT NULL DEFAULT '{}'
);
INSERT INTO "audit" VALUES(1,'2026-11-28T02:34:00.035153+00:00','system','configuration',NULL,NULL,NULL,NULL,'token.create','token','tok-ae11c55e8270','{"expires_at":null,"name":"admin.token","role":"admin","user_id":"admin"}');
INSERT INTO "audit" VALUES(2,'2026-11-28T02:34:00.663476+00:00','system','configuration',NULL,NULL,NULL,NULL,'controller.register','controller','ctrl-831729193e8e','{"endpoint":"","labels":{"region":"lab"},"name":"first","type":"simulated"}');
INSERT INTO "audit" VALUES(3,'2026-11-28T02:34:00.669270+00:00','system','configuration',NULL,NULL,NULL,NULL,'controller.register','controller','ctrl-997bdb37af9d','{"endpoint":"","labels":{},"name":"second","type":"simulated"}');
INSERT INTO "audit" VALUES(4,'2026-11-28T02:34:00.706687+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','51e29749-6d14-41b8-84a4-3f890797d680','user.create','user','alice','{"active":true,"email":null,"full_name":"","role":"user"}');
INSERT INTO "audit" VALUES(5,'2026-11-28T02:34:00.709130+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','3375f01f-5f4f-451e-a7ad-b685fcc26d33','user.create','user','otto','{"active":true,"email":null,"full_name":"","role":"operator"}');
INSERT INTO "audit" VALUES(6,'2026-11-28T02:34:00.711695+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','40e0906f-03bc-403e-b197-8e425249d2b9','quota.set','quota','alice','{"limits":{"memory":"8Gi","sessions":"10"},"previous":null}');
INSERT INTO "audit" VALUES(7,'2026-11-28T02:34:00.714708+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','39dacfd2-d8ef-4b91-a2d2-540c5c8d84b9','template.create','template','desk','{"generation":1}');
INSERT INTO "audit" VALUES(8,'2026-11-28T02:34:00.716956+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','f002dc2f-e74b-403f-95f1-9ed6ec3ccc7f','session.create','session','01a22000-9c8c-72d1-964f-30ec675e7bd3','{"controller_id":"ctrl-831729193e8e","generation":1,"template_id":"","user_id":"alice"}');
INSERT INTO "audit" VALUES(9,'2026-11-28T02:34:00.733825+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','864c4c59-f1b1-46e6-8249-251c1d67b4ee','session.create','session','01a22000-9c9d-7396-afee-ac95e0288fcf','{"controller_id":"ctrl-831729193e8e","generation":1,"template_id":"","user_id":"alice"}');
INSERT INTO "audit" VALUES(10,'2026-11-28T02:34:00.746866+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','648364f0-7796-4bc8-ad3b-5d8c7e8bdab5','session.hibernate','session','01a22000-9c9d-7396-afee-ac95e0288fcf','{"generation":2,"previous":"running","user_id":"alice"}');
INSERT INTO "audit" VALUES(11,'2026-11-28T02:34:00.762401+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','6974dca5-9166-4abe-94df-49d29665e28f','session.create','session','01a22000-9cba-7131-98cd-b9d3b1ae6956','{"controller_id":"ctrl-831729193e8e","generation":1,"template_id":"","user_id":"bob"}');
INSERT INTO "audit" VALUES(12,'2026-11-28T02:34:00.774994+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','00358acc-d0c8-435f-94a5-020d5aec5f6d','session.hibernate','session','01a22000-9cba-7131-98cd-b9d3b1ae6956','{"generation":2,"previous":"running","user_id":"bob"}');
INSERT INTO "audit" VALUES(13,'2026-11-28T02:34:00.786054+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','f192c7d8-6354-4825-a5e0-76907203bde9','session.wake','session','01a22000-9cba-7131-98cd-b9d3b1ae6956','{"generation":3,"previous":"hibernated","user_id":"bob"}');
INSERT INTO "audit" VALUES(14,'2026-11-28T02:34:00.796762+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','fe1080d1-e4d9-4ba0-965f-833dc59daf03','session.create','session','01a22000-9cdc-7270-8800-38f2af9d363a','{"controller_id":"ctrl-831729193e8e","generation":1,"template_id":"","user_id":"bob"}');
INSERT INTO "audit" VALUES(15,'2026-11-28T02:34:00.810695+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','6d588058-cb64-4c4d-af3d-8a4fb0c4ff89','session.terminate','session','01a22000-9cdc-7270-8800-38f2af9d363a','{"generation":2,"previous":"running","user_id":"bob"}');
INSERT INTO "audit" VALUES(16,'2026-11-28T02:34:00.821275+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','4323e1b1-9252-424c-a2b6-ac244d92e4c7','session.create','session','01a22000-9cf5-7100-ab19-58259e630f01','{"controller_id":"ctrl-831729193e8e","generation":1,"template_id":"desk","user_id":"alice"}');
INSERT INTO "audit" VALUES(17,'2026-11-28T02:34:00.833884+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','ee9384f6-683e-407a-b99b-c9e7bf82bfee','session.create','session','01a22000-9d01-7484-afea-032bb6ce04ad','{"controller_id":"ctrl-831729193e8e","generation":1,"template_id":"","user_id":"bob"}');
INSERT INTO "audit" VALUES(18,'2026-11-28T02:34:00.844973+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','615ae9e7-2c9d-4387-845e-2e2ba69d831c','session.delete','session','01a22000-9d01-7484-afea-032bb6ce04ad','{"force":false,"generation":2,"purge_home":false,"user_id":"bob"}');
INSERT INTO "audit" VALUES(19,'2026-11-28T02:34:01.898538+00:00','system','drift',NULL,NULL,NULL,NULL,'drift.delete','session','01a22000-9d01-7484-afea-032bb6ce04ad','{"controller_id":"ctrl-831729193e8e"}');
INSERT INTO "audit" VALUES(20,'2026-11-28T02:34:02.369785+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','d8b34862-8759-42ce-915b-095b4e64ee05','drift.ignore','drift','drift-317131df4093','{"controller_id":"ctrl-831729193e8e","external_ref":"","session_id":"01900000-0000-7000-8000-000000000001","user_id":"carol"}');
INSERT INTO "audit" VALUES(21,'2026-11-28T02:34:02.372307+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','49855cc9-294a-40df-a0c1-963c552acc23','controller.change','controller','ctrl-997bdb37af9d','{"draining":true,"labels":{}}');
INSERT INTO "audit" VALUES(22,'2026-11-28T02:34:02.374867+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','9f0dfbb7-3179-43f0-b010-85d6223d7431','session.create','session','01a22000-a306-759c-b03f-8cc5cedb80b3','{"controller_id":null,"generation":1,"template_id":"","user_id":"bob"}');
INSERT INTO "audit" VALUES(23,'2026-11-28T02:34:02.379268+00:00','user','admin','admin','tok-ae11c55e8270','admin.token','d7e98386-c17b-4816-851c-a03c2ef84499','session.create','session','01a22000-a30b-75c4-aab8-c38f93ebdb5a','{"controller_id":"ctrl-831729193e8e","generation":1,"template_id":"","user_id":"alice"}');
CREATE TABLE controller_tokens (
    controller_id       TEXT PRIMARY KEY REFERENCES controllers(id) ON DELETE CASCADE,
    token_hash          TEXT NOT NULL,
    expires_at          TEXT,
    -- The token before this one is taken until then, so that a rotation leaves no gap.
    previous_token_hash TEXT,
    previous_expires_at TEXT,
    created_at          TEXT NOT NULL
);
CREATE TABLE controllers (
    id               TEXT PRIMARY KEY,
    type             TEXT NOT NULL,
    name             TEXT NOT NULL,
    endpoint         TEXT NOT NULL DEFAULT '',
    status           TEXT NOT NULL DEFAULT 'offline',
    message          TEXT NOT NULL DEFAULT '',
    capabilities     TEXT,
    labels           TEXT NOT NULL DEFAULT '{}',
    -- How many sessions are placed here; kept in the transaction that places or removes one.
    current_sessions INTEGER NOT NULL DEFAULT 0,
    last_heartbeat   TEXT,
    -- Fencing number of calls: raised whenever somebody takes the controller over.
    epoch            INTEGER NOT NULL DEFAULT 0,
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL, draining BOOLEAN NOT NULL DEFAULT FALSE, operator_labels TEXT NOT NULL DEFAULT '{}', active_server TEXT,
    UNIQUE (type, name)
);
INSERT INTO "controllers" VALUES('ctrl-831729193e8e','simulated','first','','healthy','','{"version":"0.1.0","supports_hibernation":true,"supports_gpu":false,"supports_persistent_storage":true,"supports_networking":true,"supports_watch":true,"capacity":{"max_sessions":100,"total_memory":"","total_cpu":"","total_storage":"","available_memory":"","available_cpu":"","available_storage":""},"labels":{}}','{"region":"lab"}',6,'2026-11-28T02:34:00.666955+00:00',1,'2026-11-28T02:34:00.662836+00:00','2026-11-28T02:34:00.666955+00:00',0,'{}','d11268adf8e7c27d/6d9d1a67-2ee7-4ca3-afa9-a7eae3e0aa4e');
INSERT INTO "controllers" VALUES('ctrl-997bdb37af9d','simulated','second','','healthy','','{"version":"0.1.0","supports_hibernation":true,"supports_gpu":false,"supports_persistent_storage":true,"supports_networking":true,"supports_watch":true,"capacity":{"max_sessions":0,"total_memory":"","total_cpu":"","total_storage":"","available_memory":"","available_cpu":"","available_storage":""},"labels":{}}','{}',0,'2026-11-28T02:34:00.672296+00:00',1,'2026-11-28T02:34:00.668605+00:00','2026-11-28T02:34:02.372169+00:00',1,'{}','d11268adf8e7c27d/6d9d1a67-2ee7-4ca3-afa9-a7eae3e0aa4e');
CREATE TABLE drift (
    id            TEXT PRIMARY KEY,
    controller_id TEXT NOT NULL REFERENCES controllers(id) ON DELETE CASCADE,
    -- The session id that it bears, or else the backend's name of it: one entry for each object.
    object        TEXT NOT NULL,
    session_id    TEXT NOT NULL DEFAULT '',
    external_ref  TEXT NOT NULL DEFAULT '',
    -- Made by the controller, or by somebody else in a form that it could take over.
    ownership     TEXT NOT NULL,
    node_id       TEXT NOT NULL DEFAULT '',
    phase         TEXT NOT NULL DEFAULT '',
    wish          TEXT NOT NULL DEFAULT '',
    user_id       TEXT NOT NULL DEFAULT '',
    -- Why no session explains it …
    reason        TEXT NOT NULL,
    -- … and what is to become of it.
    state         TEXT NOT NULL,
    message       TEXT NOT NULL DEFAULT '',
    first_seen    TEXT NOT NULL,
    last_seen     TEXT NOT NULL,
    UNIQUE (controller_id, object)
);
INSERT INTO "drift" VALUES('drift-317131df4093','ctrl-831729193e8e','01900000-0000-7000-8000-000000000001','01900000-0000-7000-8000-000000000001','','owned','ss-01900000-0000-7000-8000-000000000001/8','Running','','carol','unknown_session','ignored','','2026-11-28T02:34:01.901409+00:00','2026-11-28T02:34:01.901409+00:00');
CREATE TABLE drift_alarms (
    controller_id TEXT PRIMARY KEY REFERENCES controllers(id) ON DELETE CASCADE,
    kind          TEXT NOT NULL,
    objects       INTEGER NOT NULL,
    placed        INTEGER NOT NULL,
    since         TEXT NOT NULL
);
CREATE TABLE events (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    at            TEXT NOT NULL,
    type          TEXT NOT NULL,
    -- No references: the events of what is gone stay readable.
    session_id    TEXT,
    -- The session's owner; absent = of a controller, for operators only.
    user_id       TEXT,
    controller_id TEXT,
    generation    INTEGER,
    reason        TEXT NOT NULL DEFAULT '',
    message       TEXT NOT NULL DEFAULT '',
    data          TEXT NOT NULL DEFAULT '{}'
);
INSERT INTO "events" VALUES(1,'2026-11-28T02:34:00.675242+00:00','controller.health_changed',NULL,NULL,'ctrl-831729193e8e',NULL,'','','{"controller_id":"ctrl-831729193e8e","previous":"offline","status":"healthy"}');
INSERT INTO "events" VALUES(2,'2026-11-28T02:34:00.680698+00:00','controller.health_changed',NULL,NULL,'ctrl-997bdb37af9d',NULL,'','','{"controller_id":"ctrl-997bdb37af9d","previous":"offline","status":"healthy"}');
INSERT INTO "events" VALUES(3,'2026-11-28T02:34:00.717887+00:00','session.created','01a22000-9c8c-72d1-964f-30ec675e7bd3','alice',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(4,'2026-11-28T02:34:00.717887+00:00','session.placed','01a22000-9c8c-72d1-964f-30ec675e7bd3','alice',NULL,1,'','','{"controller_id":"ctrl-831729193e8e","controller_type":"simulated"}');
INSERT INTO "events" VALUES(5,'2026-11-28T02:34:00.717887+00:00','session.condition_changed','01a22000-9c8c-72d1-964f-30ec675e7bd3','alice',NULL,1,'Placed','placed on ctrl-831729193e8e','{"previous":null,"status":"True","type":"Scheduled"}');
INSERT INTO "events" VALUES(6,'2026-11-28T02:34:00.717887+00:00','session.condition_changed','01a22000-9c8c-72d1-964f-30ec675e7bd3','alice',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(7,'2026-11-28T02:34:00.729574+00:00','session.phase_changed','01a22000-9c8c-72d1-964f-30ec675e7bd3','alice',NULL,1,'Running','','{"phase":"Running","previous":"Pending"}');
INSERT INTO "events" VALUES(8,'2026-11-28T02:34:00.729574+00:00','session.condition_changed','01a22000-9c8c-72d1-964f-30ec675e7bd3','alice',NULL,1,'Running','','{"previous":"False","status":"True","type":"Ready"}');
INSERT INTO "events" VALUES(9,'2026-11-28T02:34:00.734663+00:00','session.created','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(10,'2026-11-28T02:34:00.734663+00:00','session.placed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,1,'','','{"controller_id":"ctrl-831729193e8e","controller_type":"simulated"}');
INSERT INTO "events" VALUES(11,'2026-11-28T02:34:00.734663+00:00','session.condition_changed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,1,'Placed','placed on ctrl-831729193e8e','{"previous":null,"status":"True","type":"Scheduled"}');
INSERT INTO "events" VALUES(12,'2026-11-28T02:34:00.734663+00:00','session.condition_changed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(13,'2026-11-28T02:34:00.742467+00:00','session.phase_changed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,1,'Running','','{"phase":"Running","previous":"Pending"}');
INSERT INTO "events" VALUES(14,'2026-11-28T02:34:00.742467+00:00','session.condition_changed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,1,'Running','','{"previous":"False","status":"True","type":"Ready"}');
INSERT INTO "events" VALUES(15,'2026-11-28T02:34:00.747829+00:00','session.wish_changed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,2,'','','{"deleting":false,"purge_home":false,"state":"hibernated"}');
INSERT INTO "events" VALUES(16,'2026-11-28T02:34:00.754680+00:00','session.phase_changed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,2,'Stopped','the box is stopped','{"phase":"Hibernated","previous":"Running"}');
INSERT INTO "events" VALUES(17,'2026-11-28T02:34:00.754680+00:00','session.condition_changed','01a22000-9c9d-7396-afee-ac95e0288fcf','alice',NULL,2,'Stopped','the box is stopped','{"previous":"True","status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(18,'2026-11-28T02:34:00.763260+00:00','session.created','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(19,'2026-11-28T02:34:00.763260+00:00','session.placed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,1,'','','{"controller_id":"ctrl-831729193e8e","controller_type":"simulated"}');
INSERT INTO "events" VALUES(20,'2026-11-28T02:34:00.763260+00:00','session.condition_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,1,'Placed','placed on ctrl-831729193e8e','{"previous":null,"status":"True","type":"Scheduled"}');
INSERT INTO "events" VALUES(21,'2026-11-28T02:34:00.763260+00:00','session.condition_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(22,'2026-11-28T02:34:00.771734+00:00','session.phase_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,1,'Running','','{"phase":"Running","previous":"Pending"}');
INSERT INTO "events" VALUES(23,'2026-11-28T02:34:00.771734+00:00','session.condition_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,1,'Running','','{"previous":"False","status":"True","type":"Ready"}');
INSERT INTO "events" VALUES(24,'2026-11-28T02:34:00.775583+00:00','session.wish_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,2,'','','{"deleting":false,"purge_home":false,"state":"hibernated"}');
INSERT INTO "events" VALUES(25,'2026-11-28T02:34:00.782559+00:00','session.phase_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,2,'Stopped','the box is stopped','{"phase":"Hibernated","previous":"Running"}');
INSERT INTO "events" VALUES(26,'2026-11-28T02:34:00.782559+00:00','session.condition_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,2,'Stopped','the box is stopped','{"previous":"True","status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(27,'2026-11-28T02:34:00.786368+00:00','session.wish_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,3,'','','{"deleting":false,"purge_home":false,"state":"running"}');
INSERT INTO "events" VALUES(28,'2026-11-28T02:34:00.793692+00:00','session.phase_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,3,'Running','','{"phase":"Running","previous":"Hibernated"}');
INSERT INTO "events" VALUES(29,'2026-11-28T02:34:00.793692+00:00','session.condition_changed','01a22000-9cba-7131-98cd-b9d3b1ae6956','bob',NULL,3,'Running','','{"previous":"False","status":"True","type":"Ready"}');
INSERT INTO "events" VALUES(30,'2026-11-28T02:34:00.797333+00:00','session.created','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(31,'2026-11-28T02:34:00.797333+00:00','session.placed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,1,'','','{"controller_id":"ctrl-831729193e8e","controller_type":"simulated"}');
INSERT INTO "events" VALUES(32,'2026-11-28T02:34:00.797333+00:00','session.condition_changed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,1,'Placed','placed on ctrl-831729193e8e','{"previous":null,"status":"True","type":"Scheduled"}');
INSERT INTO "events" VALUES(33,'2026-11-28T02:34:00.797333+00:00','session.condition_changed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(34,'2026-11-28T02:34:00.807052+00:00','session.phase_changed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,1,'Running','','{"phase":"Running","previous":"Pending"}');
INSERT INTO "events" VALUES(35,'2026-11-28T02:34:00.807052+00:00','session.condition_changed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,1,'Running','','{"previous":"False","status":"True","type":"Ready"}');
INSERT INTO "events" VALUES(36,'2026-11-28T02:34:00.810982+00:00','session.wish_changed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,2,'','','{"deleting":false,"purge_home":false,"state":"terminated"}');
INSERT INTO "events" VALUES(37,'2026-11-28T02:34:00.817815+00:00','session.phase_changed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,2,'Terminated','','{"phase":"Terminated","previous":"Running"}');
INSERT INTO "events" VALUES(38,'2026-11-28T02:34:00.817815+00:00','session.condition_changed','01a22000-9cdc-7270-8800-38f2af9d363a','bob',NULL,2,'Terminated','','{"previous":"True","status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(39,'2026-11-28T02:34:00.822055+00:00','session.created','01a22000-9cf5-7100-ab19-58259e630f01','alice',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(40,'2026-11-28T02:34:00.822055+00:00','session.placed','01a22000-9cf5-7100-ab19-58259e630f01','alice',NULL,1,'','','{"controller_id":"ctrl-831729193e8e","controller_type":"simulated"}');
INSERT INTO "events" VALUES(41,'2026-11-28T02:34:00.822055+00:00','session.condition_changed','01a22000-9cf5-7100-ab19-58259e630f01','alice',NULL,1,'Placed','placed on ctrl-831729193e8e','{"previous":null,"status":"True","type":"Scheduled"}');
INSERT INTO "events" VALUES(42,'2026-11-28T02:34:00.822055+00:00','session.condition_changed','01a22000-9cf5-7100-ab19-58259e630f01','alice',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(43,'2026-11-28T02:34:00.830581+00:00','session.phase_changed','01a22000-9cf5-7100-ab19-58259e630f01','alice',NULL,1,'Running','','{"phase":"Running","previous":"Pending"}');
INSERT INTO "events" VALUES(44,'2026-11-28T02:34:00.830581+00:00','session.condition_changed','01a22000-9cf5-7100-ab19-58259e630f01','alice',NULL,1,'Running','','{"previous":"False","status":"True","type":"Ready"}');
INSERT INTO "events" VALUES(45,'2026-11-28T02:34:00.834476+00:00','session.created','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(46,'2026-11-28T02:34:00.834476+00:00','session.placed','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,1,'','','{"controller_id":"ctrl-831729193e8e","controller_type":"simulated"}');
INSERT INTO "events" VALUES(47,'2026-11-28T02:34:00.834476+00:00','session.condition_changed','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,1,'Placed','placed on ctrl-831729193e8e','{"previous":null,"status":"True","type":"Scheduled"}');
INSERT INTO "events" VALUES(48,'2026-11-28T02:34:00.834476+00:00','session.condition_changed','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(49,'2026-11-28T02:34:00.841826+00:00','session.phase_changed','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,1,'Running','','{"phase":"Running","previous":"Pending"}');
INSERT INTO "events" VALUES(50,'2026-11-28T02:34:00.841826+00:00','session.condition_changed','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,1,'Running','','{"previous":"False","status":"True","type":"Ready"}');
INSERT INTO "events" VALUES(51,'2026-11-28T02:34:00.845352+00:00','session.wish_changed','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,2,'','','{"deleting":true,"purge_home":false,"state":"running"}');
INSERT INTO "events" VALUES(52,'2026-11-28T02:34:00.851944+00:00','session.deleted','01a22000-9d01-7484-afea-032bb6ce04ad','bob',NULL,2,'','','{"purge_home":false}');
INSERT INTO "events" VALUES(53,'2026-11-28T02:34:02.372251+00:00','controller.changed',NULL,NULL,'ctrl-997bdb37af9d',NULL,'','','{"controller_id":"ctrl-997bdb37af9d","draining":true,"labels":{}}');
INSERT INTO "events" VALUES(54,'2026-11-28T02:34:02.375332+00:00','session.created','01a22000-a306-759c-b03f-8cc5cedb80b3','bob',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(55,'2026-11-28T02:34:02.375332+00:00','session.condition_changed','01a22000-a306-759c-b03f-8cc5cedb80b3','bob',NULL,1,'Unschedulable','a controller of type "simulated" is draining','{"previous":null,"status":"False","type":"Scheduled"}');
INSERT INTO "events" VALUES(56,'2026-11-28T02:34:02.375332+00:00','session.condition_changed','01a22000-a306-759c-b03f-8cc5cedb80b3','bob',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
INSERT INTO "events" VALUES(57,'2026-11-28T02:34:02.379738+00:00','session.created','01a22000-a30b-75c4-aab8-c38f93ebdb5a','alice',NULL,1,'','','{"state":"running"}');
INSERT INTO "events" VALUES(58,'2026-11-28T02:34:02.379738+00:00','session.placed','01a22000-a30b-75c4-aab8-c38f93ebdb5a','alice',NULL,1,'','','{"controller_id":"ctrl-831729193e8e","controller_type":"simulated"}');
INSERT INTO "events" VALUES(59,'2026-11-28T02:34:02.379738+00:00','session.condition_changed','01a22000-a30b-75c4-aab8-c38f93ebdb5a','alice',NULL,1,'Placed','placed on ctrl-831729193e8e','{"previous":null,"status":"True","type":"Scheduled"}');
INSERT INTO "events" VALUES(60,'2026-11-28T02:34:02.379738+00:00','session.condition_changed','01a22000-a30b-75c4-aab8-c38f93ebdb5a','alice',NULL,1,'Pending','not started yet','{"previous":null,"status":"False","type":"Ready"}');
CREATE TABLE idempotency_keys (
    caller      TEXT NOT NULL,
    key         TEXT NOT NULL,
    body_hash   TEXT NOT NULL,
    session_id  TEXT NOT NULL,
    -- The answer as it was given, without secrets.
    response    TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    expires_at  TEXT NOT NULL,
    PRIMARY KEY (caller, key)
);
INSERT INTO "idempotency_keys" VALUES('admin','alice-1','9ab1d6c0972a60f203d4888110fbd395952b9c5eaca647cc525c1831cec5a8e0','01a22000-9c8c-72d1-964f-30ec675e7bd3','{"id":"01a22000-9c8c-72d1-964f-30ec675e7bd3","user_id":"alice","template_id":"","controller_id":"ctrl-831729193e8e","controller_type":"simulated","node_id":"","state":"running","phase":"Pending","url":"/s/01a22000-9c8c-72d1-964f-30ec675e7bd3/","spec":{"base_image":"any","resources":{"memory":"256Mi","cpu":"250m","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":true,"home_size":"","idle_timeout":"30m","max_session_duration":"","labels":{}},"status":{"conditions":[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-831729193e8e","since":"2026-11-28T02:34:00.716956Z"},{"type":"Ready","status":"False","reason":"Pending","message":"not started yet","since":"2026-11-28T02:34:00.716956Z"}],"observed_generation":null,"last_activity":null,"operation":{"kind":"create","attempt":0,"deadline":null,"next_attempt_at":"2026-11-28T02:34:00.716956Z","message":"","last_error":"","since":"2026-11-28T02:34:00.717Z"}},"generation":1,"deleting":false,"created_at":"2026-11-28T02:34:00.716796Z","updated_at":"2026-11-28T02:34:00.716796Z"}','2026-11-28T02:34:00.716956+00:00','2026-11-29T02:34:00.716956+00:00');
CREATE TABLE operations (
    session_id        TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE,
    -- The controller whose turn it is; empty while the session has none.
    queue             TEXT NOT NULL DEFAULT '',
    id                TEXT NOT NULL,
    kind              TEXT NOT NULL,
    generation        INTEGER NOT NULL,
    attempt           INTEGER NOT NULL DEFAULT 0,
    failures          INTEGER NOT NULL DEFAULT 0,
    internal_failures INTEGER NOT NULL DEFAULT 0,
    -- Absent = nothing to do.
    next_attempt_at   TEXT,
    deadline          TEXT,
    lease_owner       TEXT,
    lease_expires_at  TEXT,
    epoch             INTEGER NOT NULL DEFAULT 0,
    handle            BLOB NOT NULL,
    accepted          BOOLEAN NOT NULL DEFAULT FALSE,
    message           TEXT NOT NULL DEFAULT '',
    last_error        TEXT NOT NULL DEFAULT '',
    updated_at        TEXT NOT NULL
, established BOOLEAN NOT NULL DEFAULT FALSE, repairs INTEGER NOT NULL DEFAULT 0, repaired_at TEXT, lane INTEGER NOT NULL DEFAULT 0);
INSERT INTO "operations" VALUES('01a22000-9c8c-72d1-964f-30ec675e7bd3','ctrl-831729193e8e','01a22000-9c8d-7599-a517-dc9f28a23349','create',1,0,0,0,NULL,NULL,NULL,NULL,1,X'',1,'','','2026-11-28T02:34:00.729196+00:00',1,0,NULL,0);
INSERT INTO "operations" VALUES('01a22000-9c9d-7396-afee-ac95e0288fcf','ctrl-831729193e8e','01a22000-9cad-743d-a99c-74d6cd586114','hibernate',2,0,0,0,NULL,NULL,NULL,NULL,2,X'',1,'the box is stopped','','2026-11-28T02:34:00.754469+00:00',1,0,NULL,0);
INSERT INTO "operations" VALUES('01a22000-9cba-7131-98cd-b9d3b1ae6956','ctrl-831729193e8e','01a22000-9cd4-75de-b346-d6c37a81b38f','wake',3,0,0,0,NULL,NULL,NULL,NULL,3,X'',1,'','','2026-11-28T02:34:00.793524+00:00',1,0,NULL,0);
INSERT INTO "operations" VALUES('01a22000-9cdc-7270-8800-38f2af9d363a','ctrl-831729193e8e','01a22000-9ced-7068-91df-7fcc4549ac0a','delete',2,0,0,0,NULL,NULL,NULL,NULL,2,X'',0,'','','2026-11-28T02:34:00.817564+00:00',0,0,NULL,0);
INSERT INTO "operations" VALUES('01a22000-9cf5-7100-ab19-58259e630f01','ctrl-831729193e8e','01a22000-9cf5-7100-ab19-582680c0e719','create',1,0,0,0,NULL,NULL,NULL,NULL,1,X'',1,'','','2026-11-28T02:34:00.830256+00:00',1,0,NULL,0);
INSERT INTO "operations" VALUES('01a22000-a306-759c-b03f-8cc5cedb80b3','','01a22000-a306-759c-b03f-8cc6b041a3e7','create',1,0,1,0,'2026-11-28T02:34:04.377997+00:00','2026-11-29T02:34:03.380023+00:00',NULL,NULL,1,X'',0,'','','2026-11-28T02:34:03.380023+00:00',0,0,NULL,0);
INSERT INTO "operations" VALUES('01a22000-a30b-75c4-aab8-c38f93ebdb5a','ctrl-831729193e8e','01a22000-a30b-75c4-aab8-c390a7b23abe','create',1,1,0,0,'2026-11-28T02:34:02.381772+00:00','2026-11-28T02:44:02.381772+00:00','d11268adf8e7c27d/6d9d1a67-2ee7-4ca3-afa9-a7eae3e0aa4e','2026-11-28T02:35:32.381772+00:00',1,X'',0,'','','2026-11-28T02:34:02.381772+00:00',0,0,NULL,0);
CREATE TABLE quotas (
    user_id     TEXT PRIMARY KEY,
    limits      TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);
INSERT INTO "quotas" VALUES('alice','{"memory":"8Gi","sessions":"10"}','2026-11-28T02:34:00.711568+00:00');
CREATE TABLE servers (
    id          TEXT PRIMARY KEY,
    -- The data directory, which outlives the process.
    instance    TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    renewed_at  TEXT NOT NULL,
    lease_until TEXT
);
INSERT INTO "servers" VALUES('d11268adf8e7c27d/6d9d1a67-2ee7-4ca3-afa9-a7eae3e0aa4e','d11268adf8e7c27d','2026-11-28T02:34:00.040229+00:00','2026-11-28T02:34:00.040229+00:00',NULL);
CREATE TABLE sessions (
    id                  TEXT PRIMARY KEY,
    user_id             TEXT NOT NULL,
    template_id         TEXT NOT NULL DEFAULT '',
    controller_id       TEXT REFERENCES controllers(id),
    controller_type     TEXT,
    node_id             TEXT NOT NULL DEFAULT '',
    -- The wish …
    state               TEXT NOT NULL,
    deleting            BOOLEAN NOT NULL DEFAULT FALSE,
    purge_home          BOOLEAN NOT NULL DEFAULT FALSE,
    generation          INTEGER NOT NULL,
    -- … and what was observed. The one never overwrites the other.
    phase               TEXT NOT NULL,
    observed_generation INTEGER,
    conditions          TEXT NOT NULL DEFAULT '[]',
    url                 TEXT NOT NULL,
    spec                TEXT NOT NULL,
    spec_hash           TEXT NOT NULL,
    controller_config   TEXT NOT NULL DEFAULT '{}',
    placement           TEXT NOT NULL DEFAULT '{}',
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL
, last_activity TEXT, running_since TEXT, started_at TEXT, policy_due_at TEXT, forget_after TEXT);
INSERT INTO "sessions" VALUES('01a22000-9c8c-72d1-964f-30ec675e7bd3','alice','','ctrl-831729193e8e','simulated','ss-01a22000-9c8c-72d1-964f-30ec675e7bd3/2','running',0,0,1,'Running',1,'[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-831729193e8e","since":"2026-11-28T02:34:00.716956Z"},{"type":"Ready","status":"True","reason":"Running","message":"","since":"2026-11-28T02:34:00.726102921Z"}]','/s/01a22000-9c8c-72d1-964f-30ec675e7bd3/','{"base_image":"any","resources":{"memory":"256Mi","cpu":"250m","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":true,"home_size":"","idle_timeout":"30m","max_session_duration":"","labels":{}}','db683ad2146c17615fb52d356bd056290df8c79db66f2352388a9e2992098a24','{}','{"controller_id":"ctrl-831729193e8e","controller_type":null,"labels":{},"require":[]}','2026-11-28T02:34:00.716796+00:00','2026-11-28T02:34:00.729196+00:00',NULL,'2026-11-28T02:34:00.729196+00:00','2026-11-28T02:34:00.729196+00:00','2026-11-28T03:04:00.729196+00:00',NULL);
INSERT INTO "sessions" VALUES('01a22000-9c9d-7396-afee-ac95e0288fcf','alice','','ctrl-831729193e8e','simulated','ss-01a22000-9c9d-7396-afee-ac95e0288fcf/3','hibernated',0,0,2,'Hibernated',2,'[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-831729193e8e","since":"2026-11-28T02:34:00.733825Z"},{"type":"Ready","status":"False","reason":"Stopped","message":"the box is stopped","since":"2026-11-28T02:34:00.752166842Z"}]','/s/01a22000-9c9d-7396-afee-ac95e0288fcf/','{"base_image":"any","resources":{"memory":"256Mi","cpu":"250m","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":false,"home_size":"","idle_timeout":"","max_session_duration":"","labels":{}}','c178639cd8ef1ad444761a817b995ceff26d1d6acf83f8b24fea4dc3c34d0c9a','{}','{"controller_id":"ctrl-831729193e8e","controller_type":null,"labels":{},"require":[]}','2026-11-28T02:34:00.733598+00:00','2026-11-28T02:34:00.754469+00:00',NULL,NULL,'2026-11-28T02:34:00.742176+00:00',NULL,NULL);
INSERT INTO "sessions" VALUES('01a22000-9cba-7131-98cd-b9d3b1ae6956','bob','','ctrl-831729193e8e','simulated','ss-01a22000-9cba-7131-98cd-b9d3b1ae6956/4','running',0,0,3,'Running',3,'[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-831729193e8e","since":"2026-11-28T02:34:00.762401Z"},{"type":"Ready","status":"True","reason":"Running","message":"","since":"2026-11-28T02:34:00.791697828Z"}]','/s/01a22000-9cba-7131-98cd-b9d3b1ae6956/','{"base_image":"any","resources":{"memory":"256Mi","cpu":"250m","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":false,"home_size":"","idle_timeout":"","max_session_duration":"","labels":{}}','c178639cd8ef1ad444761a817b995ceff26d1d6acf83f8b24fea4dc3c34d0c9a','{}','{"controller_id":"ctrl-831729193e8e","controller_type":null,"labels":{},"require":[]}','2026-11-28T02:34:00.762147+00:00','2026-11-28T02:34:00.793524+00:00',NULL,'2026-11-28T02:34:00.793524+00:00','2026-11-28T02:34:00.771460+00:00',NULL,NULL);
INSERT INTO "sessions" VALUES('01a22000-9cdc-7270-8800-38f2af9d363a','bob','','ctrl-831729193e8e','simulated','','terminated',0,0,2,'Terminated',2,'[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-831729193e8e","since":"2026-11-28T02:34:00.796762Z"},{"type":"Ready","status":"False","reason":"Terminated","message":"","since":"2026-11-28T02:34:00.815802064Z"}]','/s/01a22000-9cdc-7270-8800-38f2af9d363a/','{"base_image":"any","resources":{"memory":"256Mi","cpu":"250m","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":false,"home_size":"","idle_timeout":"","max_session_duration":"","labels":{}}','c178639cd8ef1ad444761a817b995ceff26d1d6acf83f8b24fea4dc3c34d0c9a','{}','{"controller_id":"ctrl-831729193e8e","controller_type":null,"labels":{},"require":[]}','2026-11-28T02:34:00.796565+00:00','2026-11-28T02:34:00.817564+00:00',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sessions" VALUES('01a22000-9cf5-7100-ab19-58259e630f01','alice','desk','ctrl-831729193e8e','simulated','ss-01a22000-9cf5-7100-ab19-58259e630f01/6','running',0,0,1,'Running',1,'[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-831729193e8e","since":"2026-11-28T02:34:00.821275Z"},{"type":"Ready","status":"True","reason":"Running","message":"","since":"2026-11-28T02:34:00.827910029Z"}]','/s/01a22000-9cf5-7100-ab19-58259e630f01/','{"base_image":"any","resources":{"memory":"256Mi","cpu":"","storage":""},"ports":[],"env":[{"name":"PIN","value":"4711","secret":true}],"volume_mounts":[],"persistent_home":false,"home_size":"","idle_timeout":"","max_session_duration":"","labels":{}}','52816017a4bdb1369337203bab2e04e496429061e278bcab526a17a9912a2660','{}','{"controller_id":"ctrl-831729193e8e","controller_type":null,"labels":{},"require":[],"template":{"generation":1,"images":{},"common_image":true,"compatible":[],"preferred":null,"controller_config":{}}}','2026-11-28T02:34:00.821092+00:00','2026-11-28T02:34:00.830256+00:00',NULL,'2026-11-28T02:34:00.830256+00:00','2026-11-28T02:34:00.830256+00:00',NULL,NULL);
INSERT INTO "sessions" VALUES('01a22000-a306-759c-b03f-8cc5cedb80b3','bob','',NULL,NULL,'','running',0,0,1,'Pending',NULL,'[{"type":"Scheduled","status":"False","reason":"Unschedulable","message":"a controller of type \"simulated\" is draining","since":"2026-11-28T02:34:02.374867Z"},{"type":"Ready","status":"False","reason":"Pending","message":"not started yet","since":"2026-11-28T02:34:02.374867Z"}]','/s/01a22000-a306-759c-b03f-8cc5cedb80b3/','{"base_image":"any","resources":{"memory":"","cpu":"","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":false,"home_size":"","idle_timeout":"","max_session_duration":"","labels":{}}','e4f2327054daf39a9d8aeea76bd3d8b623c5f192bbd75dad969d6eb24a422036','{}','{"controller_id":"ctrl-997bdb37af9d","controller_type":null,"labels":{},"require":[]}','2026-11-28T02:34:02.374722+00:00','2026-11-28T02:34:03.380023+00:00',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sessions" VALUES('01a22000-a30b-75c4-aab8-c38f93ebdb5a','alice','','ctrl-831729193e8e','simulated','','running',0,0,1,'Pending',NULL,'[{"type":"Scheduled","status":"True","reason":"Placed","message":"placed on ctrl-831729193e8e","since":"2026-11-28T02:34:02.379268Z"},{"type":"Ready","status":"False","reason":"Pending","message":"not started yet","since":"2026-11-28T02:34:02.379268Z"}]','/s/01a22000-a30b-75c4-aab8-c38f93ebdb5a/','{"base_image":"any","resources":{"memory":"1Gi","cpu":"","storage":""},"ports":[],"env":[],"volume_mounts":[],"persistent_home":false,"home_size":"","idle_timeout":"","max_session_duration":"","labels":{}}','eac67aa013f460ae451928e86c2a73819c05d6e50fc61a2807bcb93572597f6c','{}','{"controller_id":"ctrl-831729193e8e","controller_type":null,"labels":{},"require":[]}','2026-11-28T02:34:02.379040+00:00','2026-11-28T02:34:02.379040+00:00',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE swept_events (
    session_id TEXT PRIMARY KEY,
    user_id    TEXT,
    last_id    INTEGER NOT NULL
);
CREATE TABLE templates (
    name        TEXT PRIMARY KEY,
    body        TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);
INSERT INTO "templates" VALUES('desk','{"display_name":"Desk","description":"","category":"","icon":"","tags":[],"app_type":"desktop","capabilities":[],"spec":{"base_image":"any","resources":{"memory":"256Mi"},"env":[{"name":"PIN","value":"4711","secret":true}]},"images":{},"compatible_controllers":[],"preferred_controller":null,"controller_config":{}}',1,'2026-11-28T02:34:00.714555+00:00','2026-11-28T02:34:00.714555+00:00');
CREATE TABLE tombstones (
    session_id    TEXT PRIMARY KEY,
    controller_id TEXT,
    deleted_at    TEXT NOT NULL,
    expires_at    TEXT NOT NULL
);
INSERT INTO "tombstones" VALUES('01a22000-9d01-7484-afea-032bb6ce04ad','ctrl-831729193e8e','2026-11-28T02:34:00.851384+00:00','2026-12-28T02:34:00.851384+00:00');
CREATE TABLE users (
    id          TEXT PRIMARY KEY,
    username    TEXT NOT NULL UNIQUE,
    email       TEXT UNIQUE,
    full_name   TEXT NOT NULL DEFAULT '',
    role        TEXT NOT NULL DEFAULT 'user',
    provider    TEXT NOT NULL DEFAULT 'local',
    active      BOOLEAN NOT NULL DEFAULT TRUE,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);
INSERT INTO "users" VALUES('admin','admin',NULL,'','admin','local',1,'2026-11-28T02:34:00.034804+00:00','2026-11-28T02:34:00.034804+00:00');
INSERT INTO "users" VALUES('alice','alice',NULL,'','user','local',1,'2026-11-28T02:34:00.706210+00:00','2026-11-28T02:34:00.706210+00:00');
INSERT INTO "users" VALUES('otto','otto',NULL,'','operator','local',1,'2026-11-28T02:34:00.708872+00:00','2026-11-28T02:34:00.708872+00:00');
CREATE INDEX idx_api_tokens_user ON api_tokens(user_id);
CREATE INDEX idx_controllers_type ON controllers(type);
CREATE INDEX idx_controllers_status ON controllers(status);
CREATE INDEX idx_sessions_created ON sessions(created_at, id);
CREATE INDEX idx_sessions_user ON sessions(user_id, created_at, id);
CREATE INDEX idx_tombstones_expiry ON tombstones(expires_at);
CREATE INDEX idx_idempotency_keys_expiry ON idempotency_keys(expires_at);
CREATE INDEX idx_events_session ON events(session_id, id);
CREATE INDEX idx_events_user ON events(user_id, id);
CREATE INDEX idx_events_at ON events(at);
CREATE INDEX idx_sessions_template ON sessions(template_id, created_at, id);
CREATE UNIQUE INDEX idx_api_tokens_id ON api_tokens(id);
CREATE INDEX idx_access_grants_session ON access_grants(session_id);
CREATE INDEX idx_access_grants_user ON access_grants(user_id);
CREATE INDEX idx_access_grants_expiry ON access_grants(expires_at);
CREATE INDEX idx_audit_at ON audit(at);
CREATE INDEX idx_audit_actor ON audit(actor, id);
CREATE INDEX idx_audit_action ON audit(action, id);
CREATE INDEX idx_audit_target ON audit(target, id);
CREATE INDEX idx_sessions_policy_due ON sessions(policy_due_at) WHERE policy_due_at IS NOT NULL;
CREATE INDEX idx_drift_first_seen ON drift(first_seen, id);
CREATE INDEX idx_operations_due ON operations(queue, lane, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL AND lease_owner IS NULL;
CREATE INDEX idx_operations_leased ON operations(lease_expires_at) WHERE lease_owner IS NOT NULL;
CREATE INDEX idx_sessions_controller ON sessions(controller_id, created_at, id);
CREATE INDEX idx_sessions_controller_type ON sessions(controller_type, created_at, id);
CREATE INDEX idx_sessions_state ON sessions(state, created_at, id);
CREATE INDEX idx_sessions_phase ON sessions(phase, created_at, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('audit',23);
INSERT INTO "sqlite_sequence" VALUES('events',60);
COMMIT;
