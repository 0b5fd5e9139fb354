throw new Error('this worker entry can not be loaded');
