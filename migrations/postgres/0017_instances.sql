-- What a process says of its controller holds once it is the active one; absent = it has not said since there is this column.
ALTER TABLE controller_instances ADD COLUMN labels JSONB;
