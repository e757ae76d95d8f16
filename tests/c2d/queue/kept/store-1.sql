BEGIN TRANSACTION;
CREATE TABLE c2d_about (
	"key" TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "c2d_about" VALUES('schema',1);
CREATE TABLE c2d_attempts (
	run_id TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	worker_id TEXT NOT NULL, 
	claim_id TEXT NOT NULL, 
	held BOOLEAN NOT NULL, 
	leased_until DOUBLE NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (run_id, number), 
	CONSTRAINT c2d_claims UNIQUE (worker_id, claim_id)
);
INSERT INTO "c2d_attempts" VALUES('8e453f83a134ca7a9b44b401d2d7ae66-1',1,'embedded-1','8ba5fe3daca3f0a62fa02102445d7bc7',0,1.7956675626781609059e+09,'{"run_id":"8e453f83a134ca7a9b44b401d2d7ae66-1","number":1,"fence":"FO9GE5mvHKisAtJ-fs2Ce77R376F5w2V","worker_id":"embedded-1","session":"dbf37eb894361319","claim_id":"8ba5fe3daca3f0a62fa02102445d7bc7","demand":{"cpu":1.0,"ram_mb":1024,"disk_mb":1024,"gpus":0,"vram_mb":0,"tags":[]},"gpus":[],"claimed_at":1795667532.656616,"leased_until":1795667562.678161,"stage":"publishing","progress":null,"told":0,"ending":"completed","ended_at":1795667532.88253,"reason":""}');
CREATE TABLE c2d_events (
	run_id TEXT NOT NULL, 
	attempt BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (run_id, attempt, seq)
);
INSERT INTO "c2d_events" VALUES('8e453f83a134ca7a9b44b401d2d7ae66-1',1,1,'{"run_id":"8e453f83a134ca7a9b44b401d2d7ae66-1","attempt":1,"seq":1,"type":"stage","message":"preparing","payload":{},"at":1795667532.678199}');
INSERT INTO "c2d_events" VALUES('8e453f83a134ca7a9b44b401d2d7ae66-1',1,2,'{"run_id":"8e453f83a134ca7a9b44b401d2d7ae66-1","attempt":1,"seq":2,"type":"stage","message":"running","payload":{},"at":1795667532.824327}');
INSERT INTO "c2d_events" VALUES('8e453f83a134ca7a9b44b401d2d7ae66-1',1,3,'{"run_id":"8e453f83a134ca7a9b44b401d2d7ae66-1","attempt":1,"seq":3,"type":"stage","message":"publishing","payload":{},"at":1795667532.873554}');
CREATE TABLE c2d_job_dids (
	did TEXT NOT NULL, 
	job_id TEXT NOT NULL, 
	PRIMARY KEY (did, job_id)
);
CREATE TABLE c2d_jobs (
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	code BIGINT NOT NULL, 
	created DOUBLE NOT NULL, 
	finished DOUBLE, 
	expires DOUBLE, 
	run_id TEXT NOT NULL, 
	stop BIGINT NOT NULL, 
	revision BIGINT NOT NULL, 
	environment TEXT NOT NULL, 
	dids TEXT NOT NULL, 
	facts TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "c2d_jobs" VALUES('8e453f83a134ca7a9b44b401d2d7ae66','0xe14160af75edb59793a8547aec8ed646d0a7aa6d',70,1.79566753262021088595e+09,1.7956675328857049942e+09,1.79627233288570499415e+09,'8e453f83a134ca7a9b44b401d2d7ae66-1',0,4,'free','[]','{"owner":"0xe14160Af75EDb59793a8547AEc8eD646d0A7aa6D","environment":"free","algorithm":"raw","duration":3600.0,"free":true,"order":"","round":1,"metadata":{},"foreign":false,"attempt":1,"outcome":"succeeded","exit_code":0,"oom":false,"error":null,"results":[{"name":"a.txt","size":100,"type":"output","kept":"outputs/a.txt"},{"name":"algorithm.log","size":3,"type":"algorithmLog","kept":""}],"cpu_sec":0.029620663,"memory_peak":7188480,"duration_sec":0.04848522199608851}');
CREATE TABLE c2d_nonces (
	address TEXT NOT NULL, 
	nonce BIGINT NOT NULL, 
	PRIMARY KEY (address)
);
INSERT INTO "c2d_nonces" VALUES('0xe14160af75edb59793a8547aec8ed646d0a7aa6d',11);
INSERT INTO "c2d_nonces" VALUES('0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a',2);
CREATE TABLE c2d_orders (
	id TEXT NOT NULL, 
	job_id TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE c2d_requests (
	job_id TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (job_id)
);
INSERT INTO "c2d_requests" VALUES('8e453f83a134ca7a9b44b401d2d7ae66','{"datasets":[],"algorithm":{"meta":{"language":"python","version":"0.1","container":{"entrypoint":"python3 $ALGO","image":"python","tag":"latest","checksum":""},"rawcode":"print(\"hi\"); open(\"/data/outputs/a.txt\",\"w\").write(\"x\"*100)\n"}},"environment":""}');
CREATE TABLE c2d_runs (
	id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	rank BIGINT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	not_before DOUBLE NOT NULL, 
	cpu DOUBLE NOT NULL, 
	ram_mb BIGINT NOT NULL, 
	disk_mb BIGINT NOT NULL, 
	gpus BIGINT NOT NULL, 
	vram_mb BIGINT NOT NULL, 
	tags TEXT NOT NULL, 
	attempt BIGINT NOT NULL, 
	lapses BIGINT NOT NULL, 
	releases BIGINT NOT NULL, 
	max_attempts BIGINT NOT NULL, 
	cancel BOOLEAN DEFAULT 0 NOT NULL, 
	finished_at DOUBLE, 
	spec TEXT NOT NULL, 
	completion TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "c2d_runs" VALUES('8e453f83a134ca7a9b44b401d2d7ae66-1','COMPLETED',-5,1.79566753264467692374e+09,0.0,1.0,1024,1024,0,0,'[]',1,0,0,3,0,1795667532.88253,'{"image":"python","checksum":"","command":["/bin/sh","-c","python3 /data/transformations/algorithm"],"env":{"DIDS":"[]","TRANSFORMATION_DID":"raw","VOLUME":"/data","INPUTS":"/data/inputs","OUTPUTS":"/data/outputs","LOGS":"/data/logs","ALGO":"/data/transformations/algorithm","PYTHONUNBUFFERED":"1"},"inputs":{},"files":[{"name":"0","path":"/data/transformations/algorithm","size":60},{"name":"1","path":"/data/inputs/algoCustomData.json","size":2}],"folders":["/data/inputs","/data/outputs","/data/logs","/data/ddos","/data/transformations"],"outputs":["/data/outputs","/data/logs"],"network":false,"timeout_sec":3600.0,"output_limit":1073741824,"log_limit":16777216}','{"outcome":"succeeded","reason":"","message":"","exit_code":0,"outputs":{},"files":[{"name":"outputs/a.txt","size":100,"sha256":"09ecb6ebc8bcefc733f6f2ec44f791abeed6a99edf0cc31519637898aebd52d8"}],"cpu_sec":0.029620663,"memory_peak":7188480,"duration_sec":0.04848522199608851}');
CREATE TABLE c2d_statuses (
	place INTEGER NOT NULL, 
	job_id TEXT NOT NULL, 
	code BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	PRIMARY KEY (place)
);
INSERT INTO "c2d_statuses" VALUES(1,'8e453f83a134ca7a9b44b401d2d7ae66',1,1.79566753262021088595e+09);
INSERT INTO "c2d_statuses" VALUES(2,'8e453f83a134ca7a9b44b401d2d7ae66',10,1.79566753265668106083e+09);
INSERT INTO "c2d_statuses" VALUES(3,'8e453f83a134ca7a9b44b401d2d7ae66',20,1.79566753265668106083e+09);
INSERT INTO "c2d_statuses" VALUES(4,'8e453f83a134ca7a9b44b401d2d7ae66',30,1.79566753265668106083e+09);
INSERT INTO "c2d_statuses" VALUES(5,'8e453f83a134ca7a9b44b401d2d7ae66',40,1.79566753284548401834e+09);
INSERT INTO "c2d_statuses" VALUES(6,'8e453f83a134ca7a9b44b401d2d7ae66',50,1.79566753287759089474e+09);
INSERT INTO "c2d_statuses" VALUES(7,'8e453f83a134ca7a9b44b401d2d7ae66',60,1.79566753288581204411e+09);
INSERT INTO "c2d_statuses" VALUES(8,'8e453f83a134ca7a9b44b401d2d7ae66',70,1.79566753288581204411e+09);
CREATE TABLE c2d_tokens (
	digest TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	expires DOUBLE, 
	PRIMARY KEY (digest)
);
CREATE TABLE c2d_workers (
	id TEXT NOT NULL, 
	token_hash TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "c2d_workers" VALUES('embedded-1','','{"id":"embedded-1","token_hash":"","session":"dbf37eb894361319","total":{"cpu":2.0,"ram_mb":23593,"disk_mb":55601,"gpus":[]},"free":{"cpu":2.0,"ram_mb":23593,"disk_mb":55601,"gpus":[]},"tags":[],"draining":true,"running":[],"created_at":1795667530.088783,"seen_at":1795667832.201569}');
CREATE INDEX c2d_jobs_by_age ON c2d_jobs (created);
CREATE INDEX c2d_jobs_expiring ON c2d_jobs (expires) WHERE expires IS NOT NULL;
CREATE INDEX c2d_jobs_of_owner ON c2d_jobs (owner, created);
CREATE INDEX c2d_jobs_of_run ON c2d_jobs (run_id);
CREATE INDEX c2d_jobs_open ON c2d_jobs (environment) WHERE finished IS NULL;
CREATE INDEX c2d_dids_of_job ON c2d_job_dids (job_id);
CREATE INDEX c2d_statuses_of_job ON c2d_statuses (job_id, place);
CREATE INDEX c2d_line ON c2d_runs (rank, created_at, id) WHERE state = 'PENDING';
CREATE INDEX c2d_due ON c2d_runs (not_before) WHERE state = 'PENDING';
CREATE INDEX c2d_held ON c2d_attempts (worker_id) WHERE held = 1;
CREATE INDEX c2d_leases ON c2d_attempts (leased_until) WHERE held = 1;
CREATE INDEX ix_c2d_workers_token_hash ON c2d_workers (token_hash);
COMMIT;