"""One module for each way of training that lgreco synchronises."""
