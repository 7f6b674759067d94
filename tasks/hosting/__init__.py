"""What `finetune.hosted` is made of: the file that is sent, the looks at the remote job, the report."""
